"use strict";
// Where answers go: to the server, or, on a page without one, to the browser's own store and a file.
window.quadrat = {};
(function (quadrat) {
  function online() {
    async function ask(path, body) {
      const how = body === undefined ? {} : { method: "POST", body: JSON.stringify(body),
        headers: { "Content-Type": "application/json" } };
      let response;
      try {
        response = await fetch(path, how);
      } catch (error) {
        throw new Error("Quadrat does not answer; is it still running?");
      }
      const said = await response.json().catch(function () { return {}; });
      if (!response.ok) throw new Error(said.error || "Quadrat answers " + response.status);
      return said;
    }
    return {
      describe: function () { return ask("api/session"); },
      plot: function (n) { return ask("api/plots/" + n); },
      picture: function (n, date) { return "api/plots/" + n + "/pictures/" + date + ".jpg"; },
      keep: function (answer) { return ask("api/answers", answer); },
      undo: function () { return ask("api/undo", {}); },
      end: function () { return ask("api/end", {}); },
    };
  }

  function offline(data, say) {
    const place = "quadrat-review " + data.sample + " " + data.session.interpreter;
    let kept = [];
    try {
      kept = JSON.parse(localStorage.getItem(place) || "[]");
    } catch (error) {
      say("This browser keeps nothing; save your answers as a file before you close it.", true);
    }
    function latest() {
      const found = new Map();
      kept.forEach(function (a) { found.set(a.plot, a); });
      return found;
    }
    const withdrawn = function (a) {
      return a.seen.every(function (s) { return s.observable && s.main === null; });
    };
    function state() {
      const mine = latest();
      const done = data.session.queue.filter(function (n) {
        return mine.has(n) && !withdrawn(mine.get(n));
      });
      const took = done.map(function (n) { return mine.get(n).seconds; }).sort(function (a, b) {
        return a - b;
      });
      return { queue: data.session.queue, done: done,
        seconds: took.length ? took[Math.floor(took.length / 2)] : null };
    }
    function add(answer) {
      kept.push(Object.assign({}, answer, { answered: new Date().toISOString() }));
      try {
        localStorage.setItem(place, JSON.stringify(kept));
      } catch (error) {
        say("This browser keeps nothing; save your answers as a file before you close it.", true);
      }
    }
    return {
      offline: true,
      describe: async function () { return Object.assign({}, data.session, state()); },
      plot: async function (n) {
        const own = latest().get(n);
        return Object.assign({ plot: n, answer: own && !withdrawn(own) ? own : null },
          data.plots[n]);
      },
      picture: function (n, date) { return data.plots[n].pictures[date]; },
      keep: async function (answer) { add(answer); return state(); },
      undo: async function () {
        const mine = latest();
        const last = kept.slice().reverse().find(function (a) {
          return mine.get(a.plot) === a && !withdrawn(a);
        });
        if (!last) throw new Error("there is no answer to undo");
        add({ plot: last.plot, change: null, confidence: null, note: "", seconds: 0,
          seen: last.seen.map(function (s) {
            return { date: s.date, main: null, shares: null, observable: true };
          }) });
        return Object.assign({ plot: last.plot, taken_back: last }, state());
      },
      end: async function () { save(); },
      file: save,
    };

    function save() {
      const file = { format: "quadrat-answers", version: 1, sample: data.sample,
        interpreter: data.session.interpreter, answers: kept };
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)],
        { type: "application/json" }));
      link.download = "answers-" + data.session.interpreter.replace(/[^\w-]+/g, "_") + ".json";
      link.click();
      setTimeout(function () { URL.revokeObjectURL(link.href); }, 10000);
      say("Saved as " + link.download + "; send this file back.");
    }
  }

  quadrat.online = online;
  quadrat.offline = offline;
}(window.quadrat));
