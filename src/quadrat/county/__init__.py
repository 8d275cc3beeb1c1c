"""The synthetic county: a generated landscape for tests, benchmarks and documentation.

    land      what lies where, at which date: integer arithmetic on positions
    texture   periodic pictures of crowns, rows, roofs, rock
    palette   colours of materials in two seasons
    render    windows of the county as pictures
    county    the files: imagery, labels, truth, changes

Nothing of it shows a real place, and every file says so. It does not know models, scores or maps.
"""

from quadrat.county.county import NOTE, County, make_county

__all__ = ["NOTE", "County", "make_county"]
