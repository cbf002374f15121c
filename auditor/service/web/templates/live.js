"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const place = document.getElementById("place");
  const moved = document.getElementById("moved");
  const rate = document.getElementById("rate");
  const left = document.getElementById("left");
  const bar = document.getElementById("bar");
  const took = document.getElementById("took");
  const log = document.getElementById("log");
  const told = document.getElementById("told");
  const seen = [];  // times and amounts of the last half minute
  let asked = -2000;
  let due = 0;
  let stream = null;

  function size(count) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (count >= 1023.5 && at < units.length - 1) { count /= 1024; at += 1; }
    return `${at === 0 || count >= 100 ? count.toFixed(0) : Number(count.toPrecision(3))} ${units[at]}`;
  }

  function time(seconds) {
    if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  }

  function by(progress) {
    if (!(progress.nodes > 1)) return "";
    const again = progress.retries ? `, ${progress.retries} begun again` : "";
    return `; ${progress.nodes} nodes, ${progress.workers} workers, ${progress.units_left} of ${progress.units} units left${again}`;
  }

  function move(progress) {
    if (!progress || !moved) return;
    if (progress.what === "preparing" || !progress.total) {
      moved.textContent = progress.why || progress.what;
      return;
    }
    const bytes = progress.what === "bytes";
    const amount = (count) => bytes ? size(count) : count.toLocaleString("en");
    const share = (100 * progress.done / progress.total).toFixed(1);
    moved.textContent = `${amount(progress.done)} of ${amount(progress.total)}${bytes ? "" : ` ${progress.what}`} (${share} %)${by(progress)}`;
    bar.max = progress.total;
    bar.value = progress.done;
    const now = performance.now() / 1000;
    seen.push([now, progress.done]);
    while (seen.length > 2 && now - seen[0][0] > 30) seen.shift();
    const [then, had] = seen[0];
    if (now - then < 1 || progress.done <= had) return;
    const speed = (progress.done - had) / (now - then);
    rate.textContent = bytes ? `${size(speed)}/s` : `${speed.toFixed(1)}/s`;
    left.textContent = `about ${time((progress.total - progress.done) / speed)} left`;
  }

  async function read(attempt) {
    asked = performance.now();
    due = 0;
    try {
      const answer = await fetch(`${live.dataset.audit}/attempts/${attempt}/log`);
      if (answer.ok) log.textContent = (await answer.text()) || log.dataset.empty;
    } catch { /* the next event asks again */ }
  }

  function readSoon(attempt) {
    if (log && !due) due = setTimeout(read, Math.max(0, asked + 2000 - performance.now()), attempt);
  }

  function hear(event) {
    const audit = JSON.parse(event.data);
    if (audit.state !== live.dataset.state || String(audit.attempt) !== live.dataset.attempt) {
      stream.close();
      told.textContent = `The audit is ${audit.state}.`;
      location.reload();
      return;
    }
    if (place && audit.place) place.textContent = `Place ${audit.place} in the queue.`;
    if (took) took.textContent = time(Number(took.dataset.seconds) + performance.now() / 1000);
    move(audit.progress);
    if (audit.state === "running") readSoon(audit.attempt);
  }

  // Browsers open six connections to a place at most: a page that nobody looks at leaves its own to others.
  function listen() {
    if (stream) stream.close();
    stream = null;
    if (document.hidden) return;
    stream = new EventSource(`${live.dataset.audit}/events`);
    stream.addEventListener("audit", hear);
  }

  document.addEventListener("visibilitychange", listen);
  listen();
})();
