// Move a voice in time: drag its recording, or use the arrow keys (0.1 s), Page Up and Down (1 s), Home.
// The second at which it starts goes into the field of the person's row, from which the page takes it.
// The lanes are drawn anew after each change, even while somebody moves another voice.
{
  let held = null, focused = null, typed = null;

  const clipOf = (event) => event.target.closest && event.target.closest(".clip");
  const now = (clip) => clip.isConnected ? clip : document.querySelector(`.clip[data-row="${clip.dataset.row}"]`);
  const startOf = (clip) => Number(clip.getAttribute("aria-valuenow"));
  const secondsOf = (clip) => Number(clip.closest(".lanes").dataset.seconds);

  const show = (clip, start) => {
    const most = Number(clip.getAttribute("aria-valuemax"));
    const value = Math.round(10 * Math.min(most, Math.max(0, start))) / 10;
    clip.setAttribute("aria-valuenow", value);
    clip.style.left = `${(100 * value) / secondsOf(clip)}%`;
    return value;
  };
  const give = (clip, start) => {
    const field = document.querySelector(`input[aria-label="${clip.dataset.field}"]`);
    if (!field) return;
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    set.call(field, start);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };

  document.addEventListener("pointerdown", (event) => {
    const clip = clipOf(event);
    if (!clip || event.button) return;
    held = { clip, x: event.clientX, before: startOf(clip), start: startOf(clip) };
    clip.setPointerCapture(event.pointerId);
    clip.focus();
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    const clip = held && now(held.clip);
    if (!clip) return;
    const width = clip.parentElement.getBoundingClientRect().width;
    held.start = show(clip, held.before + ((event.clientX - held.x) / width) * secondsOf(clip));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => {
      if (held && held.start !== held.before) give(held.clip, held.start);
      held = null;
    });
  }

  // Keys that are held down move it many times; the page is told once they rest, or another voice is moved.
  const settle = () => {
    if (!typed) return;
    clearTimeout(typed.timer);
    give(typed.clip, typed.start);
    typed = null;
  };
  const steps = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, PageDown: -1, PageUp: 1, Home: -1e9 };
  document.addEventListener("keydown", (event) => {
    const clip = clipOf(event);
    if (!clip || !(event.key in steps)) return;
    event.preventDefault();
    const same = typed && typed.clip.dataset.row === clip.dataset.row;
    const before = same ? typed.start : startOf(clip);
    if (same) clearTimeout(typed.timer);
    else settle();
    typed = { clip, start: show(clip, before + steps[event.key]), timer: setTimeout(settle, 300) };
  });

  // Whoever was on a lane by keyboard stays there.
  document.addEventListener("focusin", (event) => {
    focused = clipOf(event) ? event.target.dataset.row : null;
  });
  new MutationObserver(() => {
    if (focused === null || document.activeElement !== document.body) return;
    const clip = document.querySelector(`.clip[data-row="${focused}"]`);
    if (clip) clip.focus({ preventScroll: true });
  }).observe(document, { childList: true, subtree: true });
}
