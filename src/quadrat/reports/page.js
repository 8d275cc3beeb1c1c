"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("map-canvas");
  const map = canvas ? startMap(canvas, data) : null;
  const list = document.getElementById("candidates");
  if (list) startList(list, data.candidates, map);

  function startMap(canvas, data) {
    const layers = data.layers;
    const origin = data.origin;
    const tileMetres = data.tile_m;
    const context = canvas.getContext("2d");
    const status = document.getElementById("map-status");
    const legend = document.getElementById("map-legend");
    const view = { x: 0, y: 0, scale: 1 };
    const pictures = layers.map(function (layer) {
      const image = new Image();
      const entry = { image: image, ready: false, ids: null };
      image.onload = function () { entry.ready = true; read(entry, layer); draw(); };
      image.src = layer.png;
      return entry;
    });
    const grounds = new Map(Object.entries(data.under).map(function (pair) {
      const image = new Image();
      image.onload = function () { draw(); };
      image.src = pair[1];
      return [pair[0], image];
    }));
    const slider = document.getElementById("under");
    const overlays = data.overlays.map(function (one) {
      const path = new Path2D();
      for (const line of one.lines) {
        for (let i = 0; i < line.length; i += 2) {
          if (i) path.lineTo(line[i], line[i + 1]);
          else path.moveTo(line[i], line[i + 1]);
        }
      }
      return { path: path, points: one.points, shown: true };
    });
    let current = 0;
    let marked = null;
    let pointed = null;

    // Which index each pixel shows: the page has the picture, not the numbers.
    function read(entry, layer) {
      const copy = document.createElement("canvas");
      copy.width = layer.width;
      copy.height = layer.height;
      const c = copy.getContext("2d", { willReadFrequently: true });
      c.drawImage(entry.image, 0, 0);
      const pixels = c.getImageData(0, 0, layer.width, layer.height).data;
      const places = new Map(layer.colors.map(function (color, i) {
        return [parseInt(color.slice(1), 16), i];
      }));
      const ids = new Int16Array(layer.width * layer.height).fill(-1);
      for (let i = 0; i < ids.length; i += 1) {
        if (pixels[4 * i + 3] > 0) {
          const key = (pixels[4 * i] << 16) | (pixels[4 * i + 1] << 8) | pixels[4 * i + 2];
          const found = places.get(key);
          ids[i] = found === undefined ? -1 : found;
        }
      }
      entry.ids = ids;
      entry.outline = outline(ids, layer.width, layer.height);
    }

    // The edge of the ground that is mapped.
    function outline(ids, width, height) {
      const path = new Path2D();
      const mapped = function (x, y) {
        return x >= 0 && y >= 0 && x < width && y < height && ids[y * width + x] >= 0;
      };
      for (let y = 0; y <= height; y += 1) {
        for (let x = 0; x <= width; x += 1) {
          if (mapped(x, y) !== mapped(x, y - 1)) { path.moveTo(x, y); path.lineTo(x + 1, y); }
          if (mapped(x, y) !== mapped(x - 1, y)) { path.moveTo(x, y); path.lineTo(x, y + 1); }
        }
      }
      return path;
    }

    function stroke(path, color, pixels) {
      context.lineWidth = pixels * (window.devicePixelRatio || 1) / view.scale;
      context.strokeStyle = color;
      context.stroke(path);
    }

    // Roads and outlines as lines with a light edge, towns as dots with their names.
    function drawOverlays() {
      const ratio = window.devicePixelRatio || 1;
      const shown = overlays.filter(function (one) { return one.shown; });
      context.lineJoin = "round";
      for (const one of shown) { stroke(one.path, "#ffffff", 4); stroke(one.path, "#1b1b1b", 1.5); }
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.font = "600 " + 13 * ratio + "px system-ui, sans-serif";
      context.lineWidth = 4 * ratio;
      context.strokeStyle = "#ffffff";
      context.fillStyle = "#1b1b1b";
      for (const one of shown) {
        for (const spot of one.points) {
          const x = view.x + spot.x * view.scale;
          const y = view.y + spot.y * view.scale;
          context.beginPath();
          context.arc(x, y, 4 * ratio, 0, 2 * Math.PI);
          context.stroke();
          context.fill();
          context.strokeText(spot.label, x + 8 * ratio, y + 4 * ratio);
          context.fillText(spot.label, x + 8 * ratio, y + 4 * ratio);
        }
      }
      context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
    }

    function size() {
      const box = canvas.getBoundingClientRect();
      const ratio = window.devicePixelRatio || 1;
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
    }

    function whole() {
      const layer = layers[current];
      const scale = Math.min(canvas.width / layer.width, canvas.height / layer.height);
      view.scale = scale;
      view.x = (canvas.width - layer.width * scale) / 2;
      view.y = (canvas.height - layer.height * scale) / 2;
      draw();
    }

    function draw() {
      const layer = layers[current];
      const entry = pictures[current];
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (!entry.ready) return;
      context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
      const ground = grounds.get(layer.date);
      const seen = slider && ground && ground.complete ? Number(slider.value) / 100 : 0;
      context.imageSmoothingEnabled = true;
      if (seen > 0) context.drawImage(ground, 0, 0, layer.width, layer.height);
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 1 - seen;
      context.drawImage(entry.image, 0, 0);
      context.globalAlpha = 1;
      if (entry.outline) stroke(entry.outline, "#1b1b1b", 1.5);
      drawOverlays();
      for (const spot of [[marked, "#000000", "#ffffff"], [pointed, "#000000", "#f0a202"]]) {
        if (!spot[0]) continue;
        const line = 2 * (window.devicePixelRatio || 1) / view.scale;
        const grow = Math.max(0, 5 / view.scale - 0.5);
        context.lineWidth = 2 * line;
        context.strokeStyle = spot[1];
        context.strokeRect(spot[0].x - grow, spot[0].y - grow, 1 + 2 * grow, 1 + 2 * grow);
        context.lineWidth = line;
        context.strokeStyle = spot[2];
        context.strokeRect(spot[0].x - grow, spot[0].y - grow, 1 + 2 * grow, 1 + 2 * grow);
      }
      scaleBar();
      canvas.dataset.drawn = layer.name;
    }

    // A bar of a round length, at most a quarter of the map's width.
    function scaleBar() {
      const ratio = window.devicePixelRatio || 1;
      const most = canvas.width / 4 / view.scale * tileMetres;
      const power = Math.pow(10, Math.floor(Math.log10(most)));
      const metres = power * (most >= 5 * power ? 5 : most >= 2 * power ? 2 : 1);
      const long = metres / tileMetres * view.scale;
      const left = 12 * ratio;
      const base = canvas.height - 12 * ratio;
      const label = metres >= 1000 ? metres / 1000 + " km" : metres + " m";
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.font = 12 * ratio + "px system-ui, sans-serif";
      const wide = Math.max(long, context.measureText(label).width);
      context.fillStyle = "rgba(255,255,255,0.85)";
      context.fillRect(left - 6 * ratio, base - 24 * ratio, wide + 12 * ratio, 32 * ratio);
      context.fillStyle = "#1b1b1b";
      context.fillText(label, left, base - 8 * ratio);
      context.fillRect(left, base - 3 * ratio, long, 4 * ratio);
    }

    function zoom(factor, x, y) {
      const layer = layers[current];
      const least = 0.5 * Math.min(canvas.width / layer.width, canvas.height / layer.height);
      const scale = Math.min(Math.max(view.scale * factor, least), 200);
      const real = scale / view.scale;
      view.x = x - (x - view.x) * real;
      view.y = y - (y - view.y) * real;
      view.scale = scale;
      draw();
    }

    function move(dx, dy) {
      view.x += dx;
      view.y += dy;
      draw();
    }

    function tell(x, y) {
      const layer = layers[current];
      const col = Math.floor((x - view.x) / view.scale);
      const row = Math.floor((y - view.y) / view.scale);
      const inside = col >= 0 && row >= 0 && col < layer.width && row < layer.height;
      pointed = inside ? { x: col, y: row } : null;
      say();
      draw();
    }

    // What the layer shows at the tile that is pointed at.
    function say() {
      const layer = layers[current];
      const ids = pictures[current].ids;
      const id = pointed && ids ? ids[pointed.y * layer.width + pointed.x] : -1;
      if (id < 0) pointed = null;
      status.textContent = id < 0 ? "No tile here." : "Tile (" + (pointed.y + origin.row) + ", " +
        (pointed.x + origin.col) + "): " + layer.labels[id];
    }

    function show(index) {
      current = index;
      const layer = layers[index];
      if (slider) slider.disabled = !grounds.has(layer.date);
      legend.textContent = "";
      for (const line of layer.legend) {
        const item = document.createElement("li");
        const mark = document.createElement("span");
        mark.className = "swatch";
        mark.style.background = layer.colors[line[0]];
        mark.setAttribute("aria-hidden", "true");
        item.append(mark, document.createTextNode(line[1]));
        legend.append(item);
      }
      canvas.setAttribute("aria-label", "Map of " + layer.name + ". " + layer.about +
        " Arrow keys move, plus and minus zoom, 0 shows all.");
      if (pointed) say();
      draw();
    }

    const held = new Map();
    function place(event) {
      const box = canvas.getBoundingClientRect();
      const ratio = canvas.width / box.width;
      return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
    }
    canvas.addEventListener("pointerdown", function (event) {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, place(event));
      tell(place(event).x, place(event).y);
    });
    canvas.addEventListener("pointermove", function (event) {
      const now = place(event);
      const before = held.get(event.pointerId);
      if (!before) { tell(now.x, now.y); return; }
      if (held.size === 1) {
        move(now.x - before.x, now.y - before.y);
      } else {
        const other = Array.from(held.entries()).find(function (e) {
          return e[0] !== event.pointerId;
        })[1];
        const a = Math.hypot(before.x - other.x, before.y - other.y);
        const b = Math.hypot(now.x - other.x, now.y - other.y);
        if (a > 1) zoom(b / a, (now.x + other.x) / 2, (now.y + other.y) / 2);
      }
      held.set(event.pointerId, now);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, function (event) { held.delete(event.pointerId); });
    }
    canvas.addEventListener("wheel", function (event) {
      // the page scrolls on until the map is chosen
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      const at = place(event);
      zoom(Math.exp(-event.deltaY * 0.0015), at.x, at.y);
    }, { passive: false });
    canvas.addEventListener("keydown", function (event) {
      const step = Math.max(40, canvas.width / 12);
      const middle = [canvas.width / 2, canvas.height / 2];
      const keys = {
        ArrowLeft: function () { move(step, 0); },
        ArrowRight: function () { move(-step, 0); },
        ArrowUp: function () { move(0, step); },
        ArrowDown: function () { move(0, -step); },
        "+": function () { zoom(1.5, middle[0], middle[1]); },
        "=": function () { zoom(1.5, middle[0], middle[1]); },
        "-": function () { zoom(1 / 1.5, middle[0], middle[1]); },
        0: whole,
      };
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
      tell(middle[0], middle[1]);
    });
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", function () {
        const kind = button.dataset.zoom;
        if (kind === "all") whole();
        else zoom(kind === "in" ? 1.5 : 1 / 1.5, canvas.width / 2, canvas.height / 2);
      });
    }
    for (const input of document.querySelectorAll('input[name="layer"]')) {
      input.addEventListener("change", function () { show(Number(input.value)); });
    }
    if (slider) slider.addEventListener("input", draw);
    for (const box of document.querySelectorAll('input[name="overlay"]')) {
      box.addEventListener("change", function () {
        overlays[Number(box.value)].shown = box.checked;
        draw();
      });
    }
    window.addEventListener("resize", function () {
      const middle = [(canvas.width / 2 - view.x) / view.scale,
        (canvas.height / 2 - view.y) / view.scale];
      size();
      view.x = canvas.width / 2 - middle[0] * view.scale;
      view.y = canvas.height / 2 - middle[1] * view.scale;
      draw();
    });
    size();
    show(0);
    whole();
    return {
      go: function (row, col) {
        marked = { x: col - origin.col, y: row - origin.row };
        view.scale = Math.max(view.scale, canvas.width / 40);
        view.x = canvas.width / 2 - (marked.x + 0.5) * view.scale;
        view.y = canvas.height / 2 - (marked.y + 0.5) * view.scale;
        draw();
        canvas.scrollIntoView({ block: "center" });
        canvas.focus({ preventScroll: true });
        tell(canvas.width / 2, canvas.height / 2);
      },
    };
  }

  function startList(list, rows, map) {
    const each = 12;
    const pages = Math.max(1, Math.ceil(rows.length / each));
    const input = document.getElementById("page");
    document.getElementById("pages").textContent = String(pages);
    input.max = String(pages);
    let page = 1;

    function card(row) {
      const figure = document.createElement("figure");
      figure.className = "card";
      if (row.picture) {
        const image = document.createElement("img");
        image.src = row.picture;
        image.alt = "Before and after: tile (" + row.row + ", " + row.col + ") with its neighbours, " +
          row.from + " to " + row.to + ", " + row.period;
        figure.append(image);
      }
      const caption = document.createElement("figcaption");
      const head = document.createElement("strong");
      head.textContent = row.rank + ". " + row.from + " → " + row.to;
      const about = document.createElement("div");
      const sure = row.probability >= 0.995 ? "over 99" : String(Math.round(row.probability * 100));
      about.textContent = sure + "% sure; " +
        row.expected_false.toFixed(1) + " false ones expected down to here. " + row.period + ".";
      const where = document.createElement("small");
      where.textContent = "Tile (" + row.row + ", " + row.col + "), " + row.lat.toFixed(5) + ", " +
        row.lon.toFixed(5);
      const at = row.lat.toFixed(5) + "," + row.lon.toFixed(5);
      const links = document.createElement("small");
      links.className = "links";
      links.textContent = "https://www.openstreetmap.org/?mlat=" + at.replace(",", "&mlon=") +
        "#map=17/" + at.replace(",", "/") + " https://www.google.com/maps?q=" + at;
      caption.append(head, about, where, links);
      figure.append(caption);
      if (map) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = "Show " + row.rank + " on the map";
        button.addEventListener("click", function () { map.go(row.row, row.col); });
        figure.append(button);
      }
      return figure;
    }

    function turn(to) {
      page = Math.min(Math.max(to || 1, 1), pages);
      input.value = String(page);
      list.textContent = "";
      for (const row of rows.slice((page - 1) * each, page * each)) list.append(card(row));
    }
    const steps = {
      first: function () { return 1; },
      back: function () { return page - 1; },
      next: function () { return page + 1; },
      last: function () { return pages; },
    };
    for (const button of document.querySelectorAll("[data-page]")) {
      button.addEventListener("click", function () { turn(steps[button.dataset.page]()); });
    }
    input.addEventListener("change", function () { turn(Number(input.value)); });
    turn(1);
  }
})();
