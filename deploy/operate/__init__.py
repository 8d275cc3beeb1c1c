"""The program behind `deploy/cluster`: a cluster made, used and deleted, step by step.

    steps       a step, the plan that runs or shows it, and what is remembered between two commands
    cost        core-hours, before anything starts
    image       the two images: named by what is in them
    kubernetes  what is the same in every Kubernetes: namespace, secret, chart
    azure, aws  what a cloud is asked for, and what deleting it takes
    jobs        drivers and trainings, watched to their end
    command     the command line

Standard library only, with `quadrat.redaction` of this tree. Each step can be repeated: a command
that failed goes on when it is given again.
"""
