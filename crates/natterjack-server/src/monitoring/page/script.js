
"use strict";
(() => {
  // Everything from the server is put into the page as text, never as markup: names are whatever clients say.
  const pages = document.body.dataset.pages;
  const extra = document.body.dataset.extra;
  const WINDOW_SECONDS = 180;
  const WINDOW_SECONDS_MIN = 30;
  const CONNECTIONS_MAX = 1024;
  const SLOW_MAX = 20;
  const NAME_MAX = 32;
  const BEHIND_BYTES = 1048576;
  const LOST_SHOWN_MILLISECONDS = 600000;
  const LOST_MAX = 32;
  const CERTIFICATE_DAYS_FEW = 21;
  const find = (id) => document.getElementById(id);

  // ----- words for numbers

  const counts = new Intl.NumberFormat("en");
  const count = (number) => counts.format(number ?? 0);
  const scaled = (number, base, units) => {
    let step = 0;
    while (number >= base && step < units.length - 1) { number /= base; step += 1; }
    const digits = step === 0 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
    return `${number.toFixed(digits)}${units[step]}`;
  };
  const rate = (number) => scaled(number, 1000, ["", " k", " M", " G"]);
  const bytes = (number) => scaled(number ?? 0, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
  const UNIT_SECONDS = { ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600, d: 86400, y: 31536000 };
  const seconds = (text) => {
    let sum = 0;
    for (const [, number, unit] of (text ?? "").matchAll(/([\d.]+)(ns|µs|ms|s|m|h|d|y)/g)) {
      sum += Number(number) * UNIT_SECONDS[unit];
    }
    return sum;
  };

  // Nothing until it was measured.
  const roundTrip = (row) => {
    const time = seconds(row.rtt);
    if (time <= 0) return "";
    if (time < 1e-6) return "<1µs";
    if (time < 1e-3) return `${Math.round(time * 1e6)}µs`;
    const [number, unit] = time < 1 ? [time * 1000, "ms"] : [time, "s"];
    return `${Number(number.toPrecision(3))}${unit}`;
  };
  const moment = (text) => (text ?? "").replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
  // Names of a kind begin alike, and end in what tells them apart.
  const shortened = (name) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX - 14)}…${name.slice(-13)}` : name);
  const several = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

  // ----- small pieces of the page

  const element = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const drawn = (name, attributes = {}, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  };
  const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  // A table that keeps its rows while they change, so that what is open, selected or focused stays so.
  class Table {
    constructor(id, columns, { key, empty, sort = 0, descending = false, onSort = () => {} }) {
      Object.assign(this, { columns, key, empty, sort, descending, onSort, rows: [], known: new Map() });
      this.heads = columns.map((column, index) => this.head(column, index));
      this.body = element("tbody");
      find(id).append(element("thead", {}, element("tr", {}, ...this.heads)), this.body);
      this.markSort();
    }

    head(column, index) {
      const button = element("button", { type: "button" }, column.title);
      button.addEventListener("click", () => this.sortBy(index));
      return element("th", { scope: "col", class: column.is_number ? "number" : "text" }, button);
    }

    sortBy(index) {
      const column = this.columns[index];
      this.descending = this.sort === index ? !this.descending : Boolean(column.is_number);
      this.sort = index;
      this.markSort();
      this.show(this.rows);
      this.onSort(column);
    }

    markSort() {
      this.heads.forEach((head, index) => {
        const order = this.descending ? "descending" : "ascending";
        head.setAttribute("aria-sort", index === this.sort ? order : "none");
      });
    }

    sorted(rows) {
      const { value } = this.columns[this.sort];
      const order = (a, b) => (typeof a === "number" && typeof b === "number"
        ? a - b
        : String(a).localeCompare(String(b), "en", { numeric: true }));
      const sign = this.descending ? -1 : 1;
      return [...rows].sort((a, b) => sign * order(value(a), value(b)));
    }

    show(rows) {
      this.rows = rows;
      const wanted = this.sorted(rows).map((row) => this.row(row));
      const kept = new Set(wanted);
      for (const [key, row] of this.known) {
        if (!kept.has(row)) { row.remove(); this.known.delete(key); }
      }
      if (this.none) { this.none.remove(); this.none = undefined; }
      let next = this.body.firstChild;
      for (const row of wanted) {
        if (row === next) next = next.nextSibling;
        else this.body.insertBefore(row, next);
      }
      // What nobody has takes no room.
      this.columns.forEach((column, index) => {
        if (!column.is_optional) return;
        const isEmpty = rows.every((row) => !column.value(row));
        this.heads[index].hidden = isEmpty;
        for (const row of wanted) row.cells[index].hidden = isEmpty;
      });
      if (wanted.length === 0) {
        const cell = element("td", { class: "none", colspan: this.columns.length }, this.empty);
        this.none = element("tr", {}, cell);
        this.body.append(this.none);
      }
    }

    row(row) {
      const key = String(this.key(row));
      let line = this.known.get(key);
      if (!line) {
        const cells = this.columns.map((column) => element("td", { class: column.is_number ? "number" : "text" }));
        line = element("tr", {}, ...cells);
        this.known.set(key, line);
      }
      this.columns.forEach((column, index) => {
        const cell = line.cells[index];
        if (column.fill) { column.fill(cell, row); return; }
        const text = column.text ? column.text(row) : String(column.value(row) ?? "");
        setText(cell, text);
        if (!column.is_number) cell.title = column.whole ? column.whole(row) : text;
        cell.classList.toggle("bad", Boolean(column.is_bad?.(row)));
      });
      return line;
    }
  }

  // A line of numbers over time.
  class Chart {
    constructor(name, words) {
      this.svg = find(`chart-${name}`);
      this.top = find(`top-${name}`);
      this.begin = find(`begin-${name}`);
      this.words = words;
      this.points = [];
      this.lines = ["in", "out"].map((direction) => drawn("path", { class: direction }));
      this.svg.append(...this.lines);
    }

    add(time, values) {
      this.points.push([time, ...values]);
      while (this.points.length > 2 && this.points[1][0] < time - WINDOW_SECONDS) this.points.shift();
      // It is wide enough for what there is, so that a page that was just opened is no empty one.
      const span = Math.min(WINDOW_SECONDS, Math.max(WINDOW_SECONDS_MIN, time - this.points[0][0]));
      const top = Math.max(...this.points.map((point) => Math.max(point[1], point[2])));
      const most = Math.max(1, top);
      this.lines.forEach((line, index) => {
        const path = this.points.map((point, position) => {
          const x = 600 * (1 - (time - point[0]) / span);
          const y = 147 - 140 * (point[index + 1] / most);
          return `${position === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
        });
        line.setAttribute("d", path.join(""));
      });
      setText(this.top, `top: ${this.words(top)}`);
      setText(this.begin, `${Math.round(span)} seconds ago`);
      this.svg.setAttribute("aria-label", `in ${this.words(values[0])}, out ${this.words(values[1])} a second`);
    }
  }

  // What a counter did in each second since it was last seen.
  class Rates {
    constructor() { this.last = new Map(); }

    of(key, time, numbers) {
      const before = this.last.get(key);
      this.last.set(key, { time, numbers });
      if (!before || time <= before.time) return before?.rates ?? numbers.map(() => 0);
      const rates = numbers.map((number, index) => Math.max(0, number - before.numbers[index]) / (time - before.time));
      this.last.get(key).rates = rates;
      return rates;
    }

    keep(keys) {
      for (const key of this.last.keys()) if (!keys.has(key)) this.last.delete(key);
    }
  }

  const ask = async (page) => {
    // Without the login that may stand in the page's own address, with which nothing may be asked for.
    const address = new URL(pages + page, location.origin + location.pathname);
    const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`${page}: ${answer.status}`);
    return answer.json();
  };
  const time = (page) => Date.parse(page.now) / 1000;

  // ----- now

  const charts = { messages: new Chart("messages", rate), bytes: new Chart("bytes", bytes) };
  const totals = new Rates();
  const tiles = new Map();

  // `exact` is for whoever points at a rounded number.
  const tile = (id, title, text, note = "", { isBad = false, exact = "" } = {}) => {
    let parts = tiles.get(id);
    if (!parts) {
      parts = { number: element("span", { id }), note: element("small") };
      find("tiles").append(element("div", {}, element("dt", {}, title), element("dd", {}, parts.number, parts.note)));
      tiles.set(id, parts);
    }
    setText(parts.number, text);
    setText(parts.note, note);
    parts.note.title = exact;
    parts.number.classList.toggle("bad", isBad);
  };

  const showServer = (varz) => {
    const at = time(varz);
    const isFirst = totals.last.size === 0;
    const [messagesIn, messagesOut, bytesIn, bytesOut] =
      totals.of("server", at, [varz.in_msgs, varz.out_msgs, varz.in_bytes, varz.out_bytes]);
    tile("messages-in", "Messages in", `${rate(messagesIn)}/s`, `${count(varz.in_msgs)} in all`);
    tile("messages-out", "Messages out", `${rate(messagesOut)}/s`, `${count(varz.out_msgs)} in all`);
    tile("bytes-in", "Bytes in", `${bytes(bytesIn)}/s`, `${bytes(varz.in_bytes)} in all`, { exact: count(varz.in_bytes) });
    tile("bytes-out", "Bytes out", `${bytes(bytesOut)}/s`, `${bytes(varz.out_bytes)} in all`, { exact: count(varz.out_bytes) });
    tile("connection-count", "Connections", count(varz.connections), `${count(varz.total_connections)} in all`);
    tile("subscription-count", "Subscriptions", count(varz.subscriptions), "with the server's own");
    tile("slow-count", "Slow consumers", count(varz.slow_consumers), "since the start", { isBad: varz.slow_consumers > 0 });
    tile("peer-count", "Servers", count((varz.remotes ?? 0) + 1), `${several(varz.routes, "connection")} to others`);
    tile("memory", "Memory", bytes(varz.mem), several(varz.cores, "processor"));
    tile("processor", "Processor", `${varz.cpu.toFixed(1)} %`, "100 % is one processor");
    // There is no rate before there are two samples, and none is not zero.
    if (!isFirst) {
      charts.messages.add(at, [messagesIn, messagesOut]);
      charts.bytes.add(at, [bytesIn, bytesOut]);
    }
    setText(find("about"), `${varz.go} · up ${varz.uptime} · port ${varz.port}`);
    showCertificates(varz);
    showSlowCounts(varz);
  };

  // ----- certificates

  const certificates = new Table("certificates", [
    { title: "Of", value: (row) => row.of },
    { title: "Good until", value: (row) => row.until, text: (row) => moment(row.until) },
    {
      title: "Days left", is_number: true, value: (row) => row.days,
      text: (row) => String(Math.floor(row.days)), is_bad: (row) => row.days < CERTIFICATE_DAYS_FEW,
    },
  ], { key: (row) => row.of, empty: "This server uses no certificates." });

  const showCertificates = (varz) => {
    const day = 86400000;
    const rows = [["clients", varz.tls_cert_not_after], ["routes", varz.cluster?.tls_cert_not_after]]
      .filter(([, until]) => until)
      .map(([of, until]) => ({ of, until, days: (Date.parse(until) - Date.parse(varz.now)) / day }));
    certificates.show(rows);
  };

  // ----- cluster

  const routes = new Table("routes", [
    { title: "Server", value: (row) => row.name },
    { title: "State", value: (row) => row.state, is_bad: (row) => row.isLost },
    { title: "Connections", is_number: true, value: (row) => row.connections },
    { title: "RTT", is_number: true, value: (row) => seconds(row.rtt), text: roundTrip },
    { title: "Pending", is_number: true, value: (row) => row.pending, text: (row) => bytes(row.pending) },
    { title: "In/s", is_number: true, value: (row) => row.rates[0], text: (row) => rate(row.rates[0]) },
    { title: "Out/s", is_number: true, value: (row) => row.rates[1], text: (row) => rate(row.rates[1]) },
  ], { key: (row) => row.id, empty: "No other server is connected." });
  const peers = new Map();
  const peerRates = new Rates();

  // Those that are lost for long, or the first of very many: whoever left for good is not lost.
  const forgetLost = () => {
    const lost = [...peers].filter(([, peer]) => peer.isLost).sort(([, a], [, b]) => b.lostAt - a.lostAt);
    lost.forEach(([id, peer], index) => {
      if (index >= LOST_MAX || Date.now() - peer.lostAt > LOST_SHOWN_MILLISECONDS) peers.delete(id);
    });
    peerRates.keep(new Set(peers.keys()));
  };

  // Connections to the same server are one line; a server that was there and is not any more stays for a while, as lost.
  const showRoutes = (routez, varz) => {
    const at = time(routez);
    const now = new Map();
    for (const route of routez.routes ?? []) {
      const id = route.remote_id;
      const peer = now.get(id) ?? { id, connections: 0, pending: 0, numbers: [0, 0], rtt: "" };
      peer.name = route.remote_name || id;
      peer.connections += 1;
      peer.pending += route.pending_size;
      peer.numbers = [peer.numbers[0] + route.in_msgs, peer.numbers[1] + route.out_msgs];
      if (route.rtt && (!peer.rtt || seconds(route.rtt) < seconds(peer.rtt))) peer.rtt = route.rtt;
      now.set(id, peer);
    }
    for (const [id, peer] of now) {
      const rates = peerRates.of(id, at, peer.numbers);
      peers.set(id, { ...peer, rates, isLost: false, state: "connected", seen: at });
    }
    for (const [id, peer] of peers) {
      if (now.has(id)) continue;
      // Back under another id, since it was started anew.
      const isBack = [...now.values()].some((other) => other.name === peer.name);
      if (isBack) { peers.delete(id); continue; }
      const gone = Math.max(0, Math.round(at - peer.seen));
      const ago = gone < 120 ? `${gone} s` : `${Math.floor(gone / 60)} min`;
      const lostAt = peer.isLost ? peer.lostAt : Date.now();
      peers.set(id, { ...peer, rates: [0, 0], connections: 0, pending: 0, rtt: "", isLost: true, lostAt, state: `lost ${ago} ago` });
    }
    forgetLost();
    const rows = [...peers.values()];
    routes.show(rows);
    find("section-cluster").hidden = rows.length === 0 && !varz?.cluster?.name;
    drawCluster(rows, varz);
  };

  const short = (name) => (name.length > 22 ? `${name.slice(0, 20)}…` : name);

  const drawCluster = (rows, varz) => {
    const graph = find("graph");
    // From the left on, so that of a few no line is upright and hides its words.
    const angles = rows.map((_, index) =>
      Math.PI + (2 * Math.PI * index) / rows.length + (rows.length % 4 === 0 ? Math.PI / 4 : 0));
    // No higher than they need: one or two others are beside this one.
    const half = 46 + Math.max(4, ...angles.map((angle) => Math.abs(105 * Math.sin(angle))));
    const centre = { x: 210, y: half };
    graph.setAttribute("viewBox", `0 0 420 ${Math.round(2 * half)}`);
    const parts = [];
    rows.forEach((peer, index) => {
      const angle = angles[index];
      const place = { x: centre.x + 140 * Math.cos(angle), y: centre.y + 105 * Math.sin(angle) };
      const bad = peer.isLost ? "bad" : "good";
      parts.push(drawn("line", { x1: centre.x, y1: centre.y, x2: place.x, y2: place.y, class: bad }));
      parts.push(drawn("circle", { cx: place.x, cy: place.y, r: 16, class: bad }));
      // Names are away from the line, and its words nearer to whom they are about: so none of them meet.
      const isAbove = place.y < centre.y - 10;
      parts.push(drawn("text", { x: place.x, y: place.y + (isAbove ? -23 : 30) }, short(peer.name)));
      const words = peer.isLost ? peer.state : roundTrip(peer);
      const at = { x: centre.x + (place.x - centre.x) * 0.62, y: centre.y + (place.y - centre.y) * 0.62 - 7 };
      parts.push(drawn("text", { x: at.x, y: at.y, class: peer.isLost ? "bad" : "soft" }, words));
    });
    parts.push(drawn("circle", { cx: centre.x, cy: centre.y, r: 20 }));
    parts.push(drawn("text", { x: centre.x, y: centre.y - 28 }, short(varz?.server_name ?? "")));
    graph.replaceChildren(...parts);
    const lost = rows.filter((peer) => peer.isLost).length;
    graph.setAttribute("aria-label", `${several(rows.length - lost, "server")} connected, ${lost} lost`);
  };

  // ----- connections

  const connectionRates = new Rates();
  let connectionSort = "cid";
  const opened = new Set();

  const fillSubscriptions = (cell, row) => {
    let details = cell.firstChild;
    if (!details) {
      details = element("details", {}, element("summary"), element("ul"));
      details.addEventListener("toggle", () => {
        if (details.open) { opened.add(row.cid); showSubscriptions(row.cid, details); } else opened.delete(row.cid);
      });
      cell.append(details);
    }
    setText(details.firstChild, count(row.subscriptions));
  };

  const showSubscriptions = async (cid, details) => {
    try {
      const connz = await ask(`connz?cid=${cid}&subs=1`);
      const subjects = (connz.connections ?? [])[0]?.subscriptions_list ?? [];
      details.lastChild.replaceChildren(...subjects.map((subject) => element("li", {}, subject)));
    } catch (error) {
      details.lastChild.replaceChildren(element("li", {}, `cannot be read: ${error.message}`));
    }
  };

  const connections = new Table("connections", [
    { title: "Id", is_number: true, value: (row) => row.cid, sort: "cid" },
    { title: "Name", value: (row) => row.name ?? "", text: (row) => shortened(row.name ?? ""), whole: (row) => row.name ?? "" },
    { title: "User", value: (row) => row.authorized_user ?? "", is_optional: true },
    { title: "Account", value: (row) => row.account ?? "", is_optional: true },
    { title: "Address", value: (row) => `${row.ip}:${row.port}` },
    { title: "Client", value: (row) => [row.lang, row.version].filter(Boolean).join(" ") },
    { title: "Subs", is_number: true, value: (row) => row.subscriptions, fill: fillSubscriptions, sort: "subs" },
    { title: "In/s", is_number: true, value: (row) => row.rates[0], text: (row) => rate(row.rates[0]), sort: "msgs_from" },
    { title: "Out/s", is_number: true, value: (row) => row.rates[1], text: (row) => rate(row.rates[1]), sort: "msgs_to" },
    {
      title: "Pending", is_number: true, value: (row) => row.pending_bytes, sort: "pending",
      text: (row) => bytes(row.pending_bytes), is_bad: (row) => row.pending_bytes > BEHIND_BYTES,
    },
    { title: "RTT", is_number: true, value: (row) => seconds(row.rtt), text: roundTrip, sort: "rtt" },
    { title: "Idle", is_number: true, value: (row) => seconds(row.idle), text: (row) => row.idle, sort: "idle" },
    { title: "Up", is_number: true, value: (row) => seconds(row.uptime), text: (row) => row.uptime, sort: "uptime" },
  ], {
    key: (row) => row.cid,
    empty: "Nobody.",
    onSort: (column) => { connectionSort = column.sort ?? "cid"; refreshConnections(); },
  });
  let listed = { rows: [], total: 0 };

  const isSearched = (row, wanted) =>
    [row.cid, row.name, row.authorized_user, row.account, `${row.ip}:${row.port}`, row.lang, row.version]
      .some((text) => String(text ?? "").toLowerCase().includes(wanted));

  const showConnections = () => {
    const wanted = find("search").value.trim().toLowerCase();
    const rows = wanted ? listed.rows.filter((row) => isSearched(row, wanted)) : listed.rows;
    connections.show(rows);
    const left = listed.total - listed.rows.length;
    const note = left > 0 ? `; ${count(left)} more are not listed, sort by a column to have others` : "";
    setText(find("shown"), `${count(rows.length)} of ${count(listed.total)}${note}`);
  };

  const refreshConnections = async () => {
    const connz = await ask(`connz?auth=1&limit=${CONNECTIONS_MAX}&sort=${connectionSort}`);
    const at = time(connz);
    const rows = (connz.connections ?? []).map((row) => (
      { ...row, rates: connectionRates.of(row.cid, at, [row.in_msgs, row.out_msgs]) }
    ));
    connectionRates.keep(new Set(rows.map((row) => row.cid)));
    listed = { rows, total: connz.total };
    showConnections();
  };

  // ----- slow consumers

  const slow = new Table("slow", [
    // Those that are still there come first.
    { title: "Closed", value: (row) => row.stop ?? "~", text: (row) => (row.stop ? moment(row.stop) : "not yet"), is_bad: (row) => !row.stop },
    { title: "Name", value: (row) => row.name ?? "" },
    { title: "Why", value: (row) => row.reason ?? "", text: (row) => row.reason ?? `${bytes(row.pending_bytes)} wait to be taken` },
    { title: "Id", is_number: true, value: (row) => row.cid },
    { title: "Account", value: (row) => row.account ?? "", is_optional: true },
    { title: "Address", value: (row) => `${row.ip}:${row.port}` },
    { title: "Was sent", is_number: true, value: (row) => row.out_msgs, text: (row) => count(row.out_msgs) },
  ], { key: (row) => row.cid, empty: "No connection is behind, and none was closed for it.", descending: true });
  let slowSeen = -1;
  let closedSlow = [];
  let behind = [];
  const showSlow = () => slow.show([...behind, ...closedSlow]);

  const showSlowCounts = (varz) => {
    const of = varz.slow_consumer_stats ?? {};
    setText(find("slow-counts"), `${several(of.clients ?? 0, "client")} and ${several(of.routes ?? 0, "route")} since the start`);
    if (varz.slow_consumers === slowSeen) return;
    slowSeen = varz.slow_consumers;
    if (slowSeen > 0) refreshSlow().catch(() => { slowSeen = -1; });
  };

  // Of all connections, listed or not.
  const refreshBehind = async () => {
    const connz = await ask(`connz?auth=1&sort=pending&limit=${SLOW_MAX}`);
    behind = (connz.connections ?? []).filter((row) => row.pending_bytes > BEHIND_BYTES);
    showSlow();
  };

  const refreshSlow = async () => {
    const connz = await ask(`connz?state=closed&sort=stop&auth=1&limit=${CONNECTIONS_MAX}`);
    const rows = (connz.connections ?? []).filter((row) => (row.reason ?? "").startsWith("Slow Consumer"));
    closedSlow = rows.slice(0, SLOW_MAX);
    showSlow();
  };

  // ----- accounts

  const accountRates = new Rates();
  const accounts = new Table("accounts", [
    { title: "Account", value: (row) => row.acc },
    { title: "Connections", is_number: true, value: (row) => row.conns },
    { title: "Subscriptions", is_number: true, value: (row) => row.num_subscriptions },
    { title: "Received/s", is_number: true, value: (row) => row.rates[0], text: (row) => rate(row.rates[0]) },
    { title: "Sent/s", is_number: true, value: (row) => row.rates[1], text: (row) => rate(row.rates[1]) },
    {
      title: "Received", is_number: true, value: (row) => row.received.bytes,
      text: (row) => `${count(row.received.msgs)} · ${bytes(row.received.bytes)}`,
    },
    {
      title: "Sent", is_number: true, value: (row) => row.sent.bytes,
      text: (row) => `${count(row.sent.msgs)} · ${bytes(row.sent.bytes)}`,
    },
    { title: "Slow", is_number: true, value: (row) => row.slow_consumers, is_bad: (row) => row.slow_consumers > 0 },
  ], { key: (row) => row.acc, empty: "No account has a connection." });

  const refreshAccounts = async () => {
    const accstatz = await ask("accstatz?unused=1");
    const at = time(accstatz);
    accounts.show((accstatz.account_statz ?? []).map((row) => (
      { ...row, rates: accountRates.of(row.acc, at, [row.received.msgs, row.sent.msgs]) }
    )));
  };

  // ----- event bus

  const bus = extra && new Table("bus", [
    { title: "What", value: (row) => row.name },
    { title: "Value", value: (row) => row.value },
  ], { key: (row) => row.name, empty: "" });

  const flattened = (value, path = []) => {
    if (value === null || typeof value !== "object") return [{ name: path.join(" · "), value: String(value ?? "–") }];
    return Object.entries(value).flatMap(([key, inner]) => flattened(inner, [...path, key.replaceAll("_", " ")]));
  };

  const refreshBus = async () => {
    find("section-bus").hidden = false;
    bus.show(flattened(await ask(extra)));
  };

  // ----- the clock of it all

  let isPaused = false;
  let latest;
  let turn = 0;

  const setState = (text, kind) => {
    const state = find("state");
    setText(state, text);
    state.className = kind;
  };

  const refresh = async () => {
    const work = [
      refreshBehind(),
      Promise.all([ask("varz"), ask("routez")]).then(([varz, routez]) => {
        latest = varz;
        showServer(varz);
        showRoutes(routez, varz);
      }),
    ];
    if (turn % 2 === 0) work.push(refreshConnections(), refreshAccounts());
    if (turn % 2 === 0 && bus) work.push(refreshBus());
    turn += 1;
    await Promise.all(work);
  };

  const tick = async () => {
    if (!isPaused && !document.hidden) {
      try {
        await refresh();
        setState("Live", "good");
      } catch {
        const since = latest ? `, what is shown is of ${new Date(latest.now).toLocaleTimeString()}` : "";
        setState(`The server does not answer${since}`, "bad");
      }
    }
    setTimeout(tick, 1000);
  };

  // ----- what people press

  const pause = () => {
    isPaused = !isPaused;
    find("pause").setAttribute("aria-pressed", String(isPaused));
    find("pause").textContent = isPaused ? "Go on" : "Pause";
    if (isPaused) setState("Paused", "");
  };

  const storage = (act) => { try { return act(window.localStorage); } catch { return null; } };
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const nameTheme = () => { find("theme").textContent = isDark() ? "Light" : "Dark"; };
  const switchTheme = () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    storage((kept) => kept.setItem("theme", document.documentElement.dataset.theme));
    nameTheme();
  };

  const chosen = storage((kept) => kept.getItem("theme"));
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  nameTheme();
  find("pause").addEventListener("click", pause);
  find("theme").addEventListener("click", switchTheme);
  find("search").addEventListener("input", showConnections);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof HTMLInputElement) {
      if (event.key === "Escape") { event.target.value = ""; event.target.blur(); showConnections(); }
      return;
    }
    if (event.key === "/") { event.preventDefault(); find("search").focus(); }
    if (event.key === "p") pause();
    if (event.key === "d") switchTheme();
  });
  find("live").hidden = false;
  find("controls").hidden = false;
  tick();
})();
