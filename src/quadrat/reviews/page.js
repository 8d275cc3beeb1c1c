"use strict";
(function () {
  const form = window.quadrat.form;
  const byId = function (id) { return document.getElementById(id); };
  const embedded = byId("data");
  const server = embedded ? window.quadrat.offline(JSON.parse(embedded.textContent), say)
    : window.quadrat.online();
  let session = null; // what the server said
  let queue = []; // plots that are left, in order
  let views = null; // the pictures
  let now = null; // the plot on the page: {plot, info, seen, change, ...}
  let ready = new Map(); // plot -> promise of {info, pictures}
  let active = 0; // the date that class keys are for
  let busy = false;

  // ---- the answer
  function blank() {
    return session.dates.map(function () { return { main: null, tenths: null, unseen: false }; });
  }

  // A class: all of the plot, or, where shares are not asked for, its main class.
  function choose(date, name) {
    now.seen[date] = { main: name, tenths: session.shares ? { [name]: form.TENTHS } : null,
      unseen: false };
    active = date;
    if (session.shares) show();
    else onwards(date);
  }

  // Keys go to the next date, where nothing is said of it yet.
  function onwards(date) {
    const next = now.seen[date + 1];
    active = next && !next.main && !next.unseen ? date + 1 : date;
    show();
  }

  function more(date, name) {
    now.seen[date] = form.more(now.seen[date], name);
    active = date;
    show();
  }

  function unseen(date) {
    now.seen[date] = { main: null, tenths: null, unseen: !now.seen[date].unseen };
    onwards(date);
  }

  // As on the date before.
  function alike() {
    if (session.dates.length < 2) return;
    const said = now.seen[active].main || now.seen[active].unseen;
    active = Math.max(1, Math.min(said ? active + 1 : active, session.dates.length - 1));
    const before = now.seen[active - 1];
    now.seen[active] = { main: before.main, unseen: before.unseen,
      tenths: before.tenths && Object.assign({}, before.tenths) };
    show();
  }

  // What the classes say of change, until the interpreter says it: null where they say nothing.
  function guessed() {
    return now.seen.length < 2 ? null : form.guess(now.seen[0], now.seen[now.seen.length - 1]);
  }

  function change() {
    const visible = now.seen.every(function (s) { return !s.unseen; });
    return visible && now.seen.length > 1 ? now.change || guessed() : null;
  }

  function answer() {
    return {
      plot: now.plot,
      seen: now.seen.map(function (s, i) {
        return { date: session.dates[i], main: s.main, shares: form.toShares(s.tenths),
          observable: !s.unseen };
      }),
      change: change(),
      confidence: now.confidence,
      note: byId("note").value.trim(),
      seconds: Math.round(10 * (now.spent + (document.hidden ? 0 : performance.now() - now.since)
        ) / 1000) / 10,
    };
  }

  function fill(given) {
    now.seen = blank();
    now.change = now.confidence = null;
    byId("note").value = "";
    active = 0;
    if (!given) return;
    now.seen = given.seen.map(function (s) {
      return { main: s.main, tenths: form.toTenths(s.shares), unseen: !s.observable };
    });
    if (given.change !== guessed()) now.change = given.change;
    now.confidence = given.confidence;
    byId("note").value = given.note || "";
  }

  // ---- from plot to plot
  function fetchPlot(n) {
    if (!ready.has(n)) {
      const pictures = session.dates.map(function (_, date) {
        const image = new Image();
        const loaded = new Promise(function (done) { image.onload = image.onerror = done; });
        image.src = server.picture(n, date);
        return { image: image, loaded: loaded };
      });
      const all = Promise.all([server.plot(n)].concat(pictures.map(function (p) {
        return p.loaded;
      })));
      ready.set(n, all.then(function (found) {
        return { info: found[0], pictures: pictures.map(function (p) { return p.image; }) };
      }));
    }
    return ready.get(n);
  }

  function take(state) {
    Object.assign(session, state);
    const done = new Set(session.done);
    const skipped = queue.filter(function (n) { return !done.has(n); });
    const known = new Set(queue);
    const fresh = session.queue.filter(function (n) { return !done.has(n) && !known.has(n); });
    queue = skipped.concat(fresh);
  }

  async function next(first, given) {
    if (first !== undefined) queue = [first].concat(queue.filter(function (n) {
      return n !== first;
    }));
    const finished = !queue.length;
    byId("work").hidden = finished;
    byId("end").hidden = !finished;
    progress();
    if (finished) { now = null; finish(); return; }
    const n = queue[0];
    let found;
    try {
      found = await fetchPlot(n);
    } catch (error) {
      ready.delete(n);
      throw error;
    }
    now = { plot: n, info: found.info, spent: 0, since: performance.now() };
    fill(given || found.info.answer);
    told();
    show();
    views.show(n, found.pictures);
    const kept = new Map();
    queue.slice(0, 3).forEach(function (k) { kept.set(k, fetchPlot(k)); });
    kept.forEach(function (promise) { promise.catch(function () {}); });
    ready = kept;
  }

  async function doing(work) {
    if (busy) return;
    busy = true;
    document.body.dataset.state = "busy";
    try {
      await work();
    } catch (error) {
      say(error.message[0].toUpperCase() + error.message.slice(1) + ".", true);
    }
    busy = false;
    document.body.dataset.state = "ready";
  }

  function save() {
    const lacks = now.seen.findIndex(function (s) { return !s.main && !s.unseen; });
    if (lacks >= 0) {
      active = lacks;
      show();
      say("Give a class for " + session.dates[lacks] + ", or X where it cannot be seen.", true);
      return;
    }
    doing(async function () {
      const n = now.plot;
      take(await server.keep(answer()));
      ready.delete(n);
      say("Plot " + n + " is kept.");
      await next();
    });
  }

  function undo() {
    doing(async function () {
      const state = await server.undo();
      take(state);
      ready.delete(state.plot);
      say("The answer for plot " + state.plot + " is taken back; it is shown as it was.");
      await next(state.plot, state.taken_back);
    });
  }

  function skip() {
    doing(async function () {
      if (queue.length < 2) { say("This is the last plot."); return; }
      say("Plot " + now.plot + " comes again at the end.");
      queue.push(queue.shift());
      await next();
    });
  }

  function finish() {
    const total = session.queue.length;
    byId("end-title").textContent = total ? "All " + total + " plots are answered"
      : "There is nothing to settle";
    byId("end-text").textContent = server.offline
      ? "Save your answers as a file and send it back."
      : "Every answer is on disk. You can close this page.";
  }

  // ---- what the page shows
  function say(text, bad) {
    byId("status").textContent = text;
    byId("status").className = bad ? "bad" : "";
  }

  function progress() {
    const total = session.queue.length;
    const done = session.done.length;
    byId("title").textContent = session.settles ? done + " of " + total + " settled"
      : done + " of " + total + " plots";
    byId("progress").max = Math.max(1, total);
    byId("progress").value = done;
    const left = session.seconds === null ? null : (total - done) * session.seconds;
    byId("pace").textContent = left === null ? "" : Math.round(session.seconds) +
      " s a plot, about " + (left < 90 ? Math.round(left) + " s" : left < 5400 ?
      Math.round(left / 60) + " min" : (left / 3600).toFixed(1) + " h") + " left";
  }

  // What is said of the plot besides its pictures.
  function told() {
    const info = now.info;
    const lines = ["Plot " + now.plot, info.lat.toFixed(5) + ", " + info.lon.toFixed(5)];
    if (info.map) lines.push("The map says " + info.map.join(" → "));
    const keys = ["Drag, wheel, arrows, + and −: move and zoom"];
    if (session.shares) keys.push("Shift and a class key: a tenth more");
    if (session.dates.length > 1) keys.push("D: other date", "E: as on the date before");
    byId("shown").replaceChildren.apply(byId("shown"), lines.concat(keys).map(function (text, i) {
      const span = document.createElement("span");
      span.textContent = text;
      span.className = i < lines.length ? "" : "keys";
      return span;
    }));
    const others = info.others || [];
    byId("others").hidden = !others.length;
    byId("others").replaceChildren.apply(byId("others"), others.map(function (a) {
      const line = document.createElement("p");
      line.textContent = form.words(a);
      return line;
    }));
  }

  function show() {
    document.querySelectorAll("#dates fieldset").forEach(function (set, date) {
      form.fillDate(set, now.seen[date], date === active);
    });
    const said = change();
    document.querySelectorAll("[data-change]").forEach(function (b) {
      form.press(b, b.dataset.change === said);
    });
    byId("guess").textContent = said && !now.change ? "(by the classes)" : "";
    document.querySelectorAll("[data-confidence]").forEach(function (b) {
      form.press(b, Number(b.dataset.confidence) === now.confidence);
    });
  }

  function build() {
    document.title = "Quadrat review, " + session.interpreter;
    byId("who").textContent = session.settles ? "Settling" : session.interpreter;
    document.querySelectorAll("[data-key]").forEach(function (b) { form.keyed(b, b.dataset.key); });
    document.body.classList.toggle("plain", !session.shares);
    byId("tools").hidden = byId("change").hidden = session.dates.length < 2;
    document.querySelector("#end [data-do=file]").hidden = !server.offline;
    document.querySelector("#end [data-do=end]").hidden = Boolean(server.offline);
    session.dates.forEach(function (date, d) {
      byId("dates").append(form.dateFields(date, session.classes, {
        choose: function (name) { choose(d, name); },
        more: function (name) { more(d, name); },
        unseen: function () { unseen(d); },
      }));
    });
  }

  // ---- keys and buttons
  const commands = {
    n: function () { now.change = "no"; show(); },
    p: function () { now.change = "part"; show(); },
    y: function () { now.change = "yes"; show(); },
    j: function () { now.confidence = 1; show(); },
    k: function () { now.confidence = 2; show(); },
    l: function () { now.confidence = 3; show(); },
    b: function () { mode("beside"); },
    w: function () { mode("swipe"); },
    f: function () { mode("flicker"); },
    h: function () { views.home(); },
    o: function () { form.press(document.querySelector("[data-do=outline]"), views.outline()); },
    d: function () { active = (active + 1) % session.dates.length; show(); },
    e: alike,
    x: function () { unseen(active); },
    t: function () { byId("note").focus(); },
    s: skip,
    u: undo,
    enter: save,
    "+": function () { views.zoom(1.3); },
    "-": function () { views.zoom(1 / 1.3); },
    arrowleft: function () { views.move(60, 0); },
    arrowright: function () { views.move(-60, 0); },
    arrowup: function () { views.move(0, 60); },
    arrowdown: function () { views.move(0, -60); },
    ",": function () { swipe(null, -0.05); },
    ".": function () { swipe(null, 0.05); },
    " ": function () { views.flick(); },
  };

  function mode(name) {
    if (session.dates.length < 2 && name !== "beside") return;
    document.querySelectorAll("[data-mode]").forEach(function (b) {
      form.press(b, b.dataset.mode === name);
    });
    views.mode(name);
  }

  function swipe(place, by) { byId("swipe").value = 100 * views.swipe(place, by); }

  function onKey(event) {
    const target = event.target;
    const typing = target.id === "note";
    if (typing && (event.key === "Enter" || event.key === "Escape")) {
      event.preventDefault();
      target.blur();
      return;
    }
    if (typing || event.altKey || event.metaKey || busy) return;
    if (!now) {
      if (event.key.toLowerCase() === "u") undo();
      return;
    }
    if (event.ctrlKey) {
      if (event.key.toLowerCase() === "z") { event.preventDefault(); undo(); }
      return;
    }
    const own = target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ");
    if (own || (target.id === "swipe" && event.key.startsWith("Arrow"))) return;
    const key = event.key === "=" ? "+" : event.key === "_" ? "-" : event.key.toLowerCase();
    const place = form.placeOf(event);
    if (place >= 0 && place < session.classes.length) {
      event.preventDefault();
      (event.shiftKey && session.shares ? more : choose)(active, session.classes[place].name);
    } else if (commands[key]) {
      event.preventDefault();
      commands[key]();
    }
  }

  function onClick(event) {
    const b = event.target.closest("button");
    if (!b) return;
    if (event.detail) b.blur(); // so that Enter saves after a click
    if (b.dataset.mode) mode(b.dataset.mode);
    if (b.dataset.change) { now.change = b.dataset.change; show(); }
    if (b.dataset.confidence) { now.confidence = Number(b.dataset.confidence); show(); }
    const acts = { in: commands["+"], out: commands["-"], home: commands.h, outline: commands.o,
      undo: undo, skip: skip, save: save, file: server.file,
      end: function () {
        doing(async function () {
          await server.end();
          byId("end-text").textContent = "The session is ended; you can close this page.";
          byId("end").querySelector(".row").hidden = true;
        });
      } };
    if (acts[b.dataset.do]) acts[b.dataset.do]();
  }

  function rest() {
    if (!now) return;
    if (document.hidden) now.spent += performance.now() - now.since;
    else now.since = performance.now();
  }

  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onClick);
  document.addEventListener("visibilitychange", rest);
  byId("answer").addEventListener("submit", function (event) { event.preventDefault(); });
  byId("swipe").addEventListener("input", function () { swipe(byId("swipe").value / 100); });

  doing(async function () {
    session = await server.describe();
    build();
    views = window.quadrat.makeViews(session, byId("views"), byId("divider"));
    take(session);
    byId("work").hidden = false;
    mode(session.dates.length > 1 && window.innerWidth < 600 ? "swipe" : "beside");
    await next();
  });
}());
