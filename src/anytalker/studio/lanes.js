// Move a voice in time: drag its recording, or use the arrow keys (0.1 s), Page Up and Down (1 s), Home.
// The second at which it starts goes into the field of the person's row, from which the page takes it.
{
  let held = null, focused = null, waiting = null;

  const clipOf = (event) => event.target.closest && event.target.closest(".clip");
  const startOf = (clip) => Number(clip.getAttribute("aria-valuenow"));
  const secondsOf = (clip) => Number(clip.closest(".lanes").dataset.seconds);

  const show = (clip, start) => {
    const most = Number(clip.getAttribute("aria-valuemax"));
    const value = Math.round(10 * Math.min(most, Math.max(0, start))) / 10;
    clip.setAttribute("aria-valuenow", value);
    clip.style.left = `${(100 * value) / secondsOf(clip)}%`;
  };
  const give = (clip) => {
    const field = document.querySelector(`input[aria-label="${clip.dataset.field}"]`);
    if (!field) return;
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    set.call(field, clip.getAttribute("aria-valuenow"));
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };

  document.addEventListener("pointerdown", (event) => {
    const clip = clipOf(event);
    if (!clip || event.button) return;
    held = { clip, x: event.clientX, start: startOf(clip) };
    clip.setPointerCapture(event.pointerId);
    clip.focus();
    event.preventDefault();
  });
  document.addEventListener("pointermove", (event) => {
    if (!held) return;
    const width = held.clip.parentElement.getBoundingClientRect().width;
    show(held.clip, held.start + ((event.clientX - held.x) / width) * secondsOf(held.clip));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => {
      if (held && startOf(held.clip) !== held.start) give(held.clip);
      held = null;
    });
  }
  const steps = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, PageDown: -1, PageUp: 1, Home: -1e9 };
  document.addEventListener("keydown", (event) => {
    const clip = clipOf(event);
    if (!clip || !(event.key in steps)) return;
    event.preventDefault();
    show(clip, startOf(clip) + steps[event.key]);
    clearTimeout(waiting);
    waiting = setTimeout(() => give(clip), 300);
  });

  // The lanes are drawn anew after each change; whoever was on one by keyboard stays there.
  document.addEventListener("focusin", (event) => {
    focused = clipOf(event) ? event.target.dataset.row : null;
  });
  new MutationObserver(() => {
    if (focused === null || document.activeElement !== document.body) return;
    const clip = document.querySelector(`.clip[data-row="${focused}"]`);
    if (clip) clip.focus({ preventScroll: true });
  }).observe(document, { childList: true, subtree: true });
}
