"use strict";
// The pictures: one view of the ground for all dates, side by side, by a divider or in turn.
(function (quadrat) {
  // `session` says dates and ground; `box` is where the pictures go, `divider` the slider's place.
  quadrat.makeViews = function (session, box, divider) {
    let now = null; // {plot, pictures}
    const view = { mode: "beside", x: 0.5, y: 0.5, zoom: 1, date: 0, swipe: 0.5, outline: true,
      hover: null, timer: null };
    const panels = []; // {canvas, caption}

    function makePanels() {
      const count = view.mode === "beside" ? session.dates.length : 1;
      panels.length = 0;
      box.textContent = "";
      for (let i = 0; i < count; i += 1) {
        const figure = document.createElement("figure");
        const canvas = document.createElement("canvas");
        const caption = document.createElement("figcaption");
        canvas.tabIndex = 0;
        canvas.setAttribute("role", "img");
        figure.append(canvas, caption);
        box.append(figure);
        panels.push({ canvas: canvas, caption: caption });
        listen(canvas);
      }
      divider.hidden = view.mode !== "swipe";
      clearInterval(view.timer);
      view.timer = null;
      const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (view.mode === "flicker" && !still) view.timer = setInterval(flick, 700);
      draw();
    }

    function flick() {
      view.date = (view.date + 1) % session.dates.length;
      draw();
    }

    // Screen pixels along the whole picture: at zoom 1 the plot takes 0.62 of the shorter side.
    function extent(canvas) {
      return Math.min(canvas.width, canvas.height) * 0.62 * session.context * view.zoom;
    }

    function draw() {
      if (!now) return;
      const several = view.mode === "beside";
      panels.forEach(function (panel, i) {
        const canvas = panel.canvas;
        const ratio = window.devicePixelRatio || 1;
        const box = canvas.getBoundingClientRect();
        const wide = Math.max(1, Math.round(box.width * ratio));
        const high = Math.max(1, Math.round(box.height * ratio));
        if (canvas.width !== wide || canvas.height !== high) {
          canvas.width = wide;
          canvas.height = high;
        }
        const c = canvas.getContext("2d");
        c.clearRect(0, 0, wide, high);
        const last = session.dates.length - 1;
        let name = session.dates[several ? i : view.date];
        if (view.mode === "swipe") {
          paint(c, 0, 0, wide * view.swipe);
          paint(c, last, wide * view.swipe, wide);
          c.fillStyle = "#fff";
          c.fillRect(wide * view.swipe - ratio, 0, 2 * ratio, high);
          name = session.dates[0] + " | " + session.dates[last];
        } else {
          paint(c, several ? i : view.date, 0, wide);
        }
        marks(c, ratio);
        panel.caption.textContent = name;
        canvas.setAttribute("aria-label", "Plot " + now.plot + ", " + name +
          ": aerial picture, the plot is outlined");
        canvas.dataset.drawn = now.plot + " " + name;
      });
    }

    function paint(c, date, left, right) {
      const canvas = c.canvas;
      const image = now.pictures[date];
      const long = extent(canvas);
      c.save();
      c.beginPath();
      c.rect(left, 0, right - left, canvas.height);
      c.clip();
      if (image.naturalWidth) {
        c.imageSmoothingEnabled = long / image.naturalWidth < 8;
        c.imageSmoothingQuality = "high";
        c.drawImage(image, canvas.width / 2 - view.x * long, canvas.height / 2 - view.y * long, long,
          long);
      } else {
        c.fillStyle = "#ddd";
        c.font = "16px system-ui, sans-serif";
        c.fillText("No picture of " + session.dates[date] + " can be read.", left + 14,
          canvas.height / 2);
      }
      c.restore();
    }

    function marks(c, ratio) {
      const canvas = c.canvas;
      const long = extent(canvas);
      const side = long / session.context;
      const left = canvas.width / 2 + (0.5 - view.x) * long - side / 2;
      const top = canvas.height / 2 + (0.5 - view.y) * long - side / 2;
      if (view.outline) {
        for (const line of [[4, "rgba(0,0,0,.65)"], [2, "#fff"]]) {
          c.lineWidth = line[0] * ratio;
          c.strokeStyle = line[1];
          c.strokeRect(left, top, side, side);
        }
      }
      if (view.hover && view.hover.canvas !== canvas) {
        const x = canvas.width / 2 + (view.hover.x - view.x) * long;
        const y = canvas.height / 2 + (view.hover.y - view.y) * long;
        for (const line of [[3, "rgba(0,0,0,.7)"], [1, "#ffd60a"]]) {
          c.lineWidth = line[0] * ratio;
          c.strokeStyle = line[1];
          c.beginPath();
          c.moveTo(x - 9 * ratio, y);
          c.lineTo(x + 9 * ratio, y);
          c.moveTo(x, y - 9 * ratio);
          c.lineTo(x, y + 9 * ratio);
          c.stroke();
        }
      }
      const metre = side / session.tile_m;
      const most = canvas.width / 5 / metre;
      const power = Math.pow(10, Math.floor(Math.log10(most)));
      const metres = power * (most >= 5 * power ? 5 : most >= 2 * power ? 2 : 1);
      const base = canvas.height - 12 * ratio;
      c.font = 600 + " " + 12 * ratio + "px system-ui, sans-serif";
      c.fillStyle = "rgba(0,0,0,.68)";
      c.fillRect(8 * ratio, base - 20 * ratio, Math.max(metres * metre, 44 * ratio) + 12 * ratio,
        26 * ratio);
      c.fillStyle = "#fff";
      c.fillText(metres >= 1000 ? metres / 1000 + " km" : metres + " m", 14 * ratio, base - 6 * ratio);
      c.fillRect(14 * ratio, base - 1 * ratio, metres * metre, 3 * ratio);
    }

    function zoomBy(factor, canvas, x, y) {
      const before = extent(canvas);
      const least = 1 / (0.62 * session.context);
      view.zoom = Math.min(Math.max(view.zoom * factor, least), 24);
      const after = extent(canvas);
      view.x += (x - canvas.width / 2) * (1 / before - 1 / after);
      view.y += (y - canvas.height / 2) * (1 / before - 1 / after);
      moveBy(0, 0, canvas);
    }

    function moveBy(dx, dy, canvas) {
      const long = extent(canvas);
      view.x = Math.min(Math.max(view.x - dx / long, 0), 1);
      view.y = Math.min(Math.max(view.y - dy / long, 0), 1);
      draw();
    }

    function home() {
      view.x = view.y = 0.5;
      view.zoom = 1;
      draw();
    }

    function middle(work) {
      const canvas = panels[0].canvas;
      work(canvas, canvas.width / 2, canvas.height / 2);
    }

    function listen(canvas) {
      const held = new Map();
      function at(event) {
        const box = canvas.getBoundingClientRect();
        const ratio = canvas.width / box.width;
        return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
      }
      canvas.addEventListener("pointerdown", function (event) {
        canvas.setPointerCapture(event.pointerId);
        held.set(event.pointerId, at(event));
      });
      canvas.addEventListener("pointermove", function (event) {
        const here = at(event);
        const before = held.get(event.pointerId);
        const long = extent(canvas);
        view.hover = event.pointerType === "mouse" ? { canvas: canvas,
          x: view.x + (here.x - canvas.width / 2) / long,
          y: view.y + (here.y - canvas.height / 2) / long } : null;
        if (!before) { draw(); return; }
        if (held.size === 1) {
          moveBy(here.x - before.x, here.y - before.y, canvas);
        } else {
          const other = Array.from(held).find(function (e) { return e[0] !== event.pointerId; })[1];
          const a = Math.hypot(before.x - other.x, before.y - other.y);
          const b = Math.hypot(here.x - other.x, here.y - other.y);
          if (a > 1) zoomBy(b / a, canvas, (here.x + other.x) / 2, (here.y + other.y) / 2);
        }
        held.set(event.pointerId, here);
      });
      for (const kind of ["pointerup", "pointercancel", "pointerleave"]) {
        canvas.addEventListener(kind, function (event) {
          if (kind !== "pointerleave") held.delete(event.pointerId);
          view.hover = null;
          draw();
        });
      }
      canvas.addEventListener("wheel", function (event) {
        event.preventDefault();
        const here = at(event);
        zoomBy(Math.pow(1.0015, -event.deltaY), canvas, here.x, here.y);
      }, { passive: false });
    }

    window.addEventListener("resize", draw);
    return {
      // A plot's number and its pictures, one a date; from here on it is what is shown.
      show: function (plot, pictures) { now = { plot: plot, pictures: pictures }; view.date = 0;
        home(); },
      mode: function (name) { view.mode = name; makePanels(); },
      home: home,
      flick: function () { clearInterval(view.timer); flick(); },
      zoom: function (factor) {
        middle(function (canvas, x, y) { zoomBy(factor, canvas, x, y); });
      },
      move: function (dx, dy) { middle(function (canvas) { moveBy(dx, dy, canvas); }); },
      // The divider's place, 0 to 1; by how much it moves where `by` is said.
      swipe: function (place, by) {
        view.swipe = Math.min(Math.max(by ? view.swipe + by : place, 0), 1);
        draw();
        return view.swipe;
      },
      outline: function () { view.outline = !view.outline; draw(); return view.outline; },
    };
  };
}(window.quadrat));
