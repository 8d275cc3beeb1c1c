"use strict";
// The answer's fields: a button a class and date, their keys, and answers in words.
(function (quadrat) {
  const LETTERS = "acgimqrvz"; // keys of classes after the tenth; other letters are commands
  const TENTHS = 10;

  function press(button, on) { button.setAttribute("aria-pressed", on ? "true" : "false"); }

  function keyed(button, key) {
    const kbd = document.createElement("kbd");
    kbd.textContent = key === "enter" ? "Enter" : key.toUpperCase();
    kbd.setAttribute("aria-hidden", "true");
    button.setAttribute("aria-keyshortcuts", key === "enter" ? "Enter" : key);
    if (button.textContent.trim() !== kbd.textContent && key !== "-" && key !== "+")
      button.append(kbd);
  }

  function button(text, label) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    return made;
  }

  function keyOf(i) { return i < 9 ? String(i + 1) : i === 9 ? "0" : LETTERS[i - 10] || ""; }

  function classItem(c, i, date, acts) {
    const item = document.createElement("div");
    item.className = "class";
    item.dataset.name = c.name;
    item.style.setProperty("--c", c.color);
    const main = button(""); // its words and the fieldset's legend, the date, name it
    main.title = c.name;
    if (keyOf(i)) keyed(main, keyOf(i));
    const square = document.createElement("i");
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = c.name;
    const share = document.createElement("span");
    share.className = "share";
    main.append(square, name, share);
    main.addEventListener("click", function () { acts.choose(c.name); });
    const plus = button("+", "A tenth more " + c.name + ", " + date);
    plus.title = "A tenth more (Shift and the key)";
    plus.addEventListener("click", function () { acts.more(c.name); });
    const bar = document.createElement("span");
    bar.className = "bar";
    main.append(bar);
    item.append(main, plus);
    return item;
  }

  // The class that a key stands for, -1 for none. Digits go by their place, so that they are the
  // same with Shift and on every keyboard.
  function placeOf(event) {
    const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
    if (digit) return (Number(digit[1]) + 9) % 10;
    const letter = event.key.length === 1 ? LETTERS.indexOf(event.key.toLowerCase()) : -1;
    return letter < 0 ? -1 : letter + 10;
  }

  // The fields of a date; `acts` says what its buttons do.
  function dateFields(date, classes, acts) {
    const set = document.createElement("fieldset");
    const head = document.createElement("legend");
    head.textContent = date;
    const list = document.createElement("div");
    list.className = "classes";
    classes.forEach(function (c, i) { list.append(classItem(c, i, date, acts)); });
    const last = document.createElement("div");
    last.className = "class unseen";
    const not = button("Cannot be seen");
    keyed(not, "x");
    not.addEventListener("click", acts.unseen);
    last.append(not);
    list.append(last);
    set.append(head, list);
    return set;
  }

  // Show what is said of a date.
  function fillDate(set, seen, active) {
    set.classList.toggle("active", active);
    set.querySelectorAll(".class").forEach(function (item) {
      const name = item.dataset.name;
      const part = seen.tenths ? 100 * (seen.tenths[name] || 0) / TENTHS : 0;
      press(item.firstChild, name === undefined ? seen.unseen : seen.main === name);
      if (name === undefined) return;
      item.style.setProperty("--share", part);
      item.querySelector(".share").textContent = part ? part + "%" : "";
    });
  }

  function toShares(tenths) { return scaled(tenths, function (n) { return n / TENTHS; }); }

  function toTenths(shares) { return scaled(shares, function (s) { return Math.round(s * TENTHS); }); }

  function scaled(values, by) {
    return values && Object.fromEntries(Object.entries(values).map(function (e) {
      return [e[0], by(e[1])];
    }));
  }

  // A date with a tenth more of a class, which is taken from the largest other one.
  function more(seen, name) {
    const tenths = Object.assign({}, seen.tenths || (seen.main ? { [seen.main]: TENTHS } : {}));
    const others = Object.keys(tenths).filter(function (k) { return k !== name; });
    others.sort(function (a, b) { return tenths[b] - tenths[a]; });
    if (!Object.keys(tenths).length) {
      tenths[name] = TENTHS;
    } else if (others.length) {
      tenths[others[0]] -= 1;
      if (!tenths[others[0]]) delete tenths[others[0]];
      tenths[name] = (tenths[name] || 0) + 1;
    }
    return { main: largest(tenths, seen.main || name), tenths: tenths, unseen: false };
  }

  function largest(tenths, usual) {
    const most = Math.max.apply(null, Object.values(tenths));
    if (tenths[usual] === most) return usual;
    return Object.keys(tenths).find(function (k) { return tenths[k] === most; });
  }

  // What the classes of two dates say of change: null where they say nothing.
  function guess(a, b) {
    if (!a.main || !b.main) return null;
    if (!a.tenths || !b.tenths) return a.main === b.main ? "no" : "yes";
    const names = new Set(Object.keys(a.tenths).concat(Object.keys(b.tenths)));
    let moved = 0;
    names.forEach(function (k) { moved += Math.abs((a.tenths[k] || 0) - (b.tenths[k] || 0)); });
    return moved === 0 ? "no" : moved === 2 * TENTHS ? "yes" : "part";
  }

  // An answer in words.
  function words(a) {
    const seen = a.seen.map(function (s) {
      if (!s.observable) return s.date + ": cannot be seen";
      const shares = s.shares && Object.keys(s.shares).length > 1 ? " (" + Object.entries(s.shares).map(function (e) {
        return e[0] + " " + Math.round(100 * e[1]) + "%";
      }).join(", ") + ")" : "";
      return s.date + ": " + s.main + shares;
    });
    const changed = { yes: "changed", no: "not changed", part: "changed in part" }[a.change];
    const sure = a.confidence ? "confidence " + a.confidence + " of 3" : "";
    return a.interpreter + ": " + seen.concat([changed, sure, a.note].filter(Boolean)).join("; ");
  }

  quadrat.form = { TENTHS: TENTHS, toShares: toShares, toTenths: toTenths, more: more,
    guess: guess, press: press, keyed: keyed, placeOf: placeOf, dateFields: dateFields,
    fillDate: fillDate, words: words };
}(window.quadrat));
