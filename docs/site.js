// Wide tables scroll sideways; by keyboard too. The theme wraps them after it has started.
addEventListener("load", () =>
  setTimeout(() => {
    document.querySelectorAll(".md-typeset__scrollwrap").forEach((box) => {
      box.tabIndex = 0;
    });
  }, 200),
);
