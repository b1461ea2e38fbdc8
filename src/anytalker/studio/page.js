document.documentElement.lang = "en";

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-play-both]")) return;
  for (const video of document.querySelectorAll(".compared video")) {
    video.currentTime = 0;
    video.play().catch(() => {}); // one that is not loaded, or is paused at once
  }
});

// Buttons of gradio's components that have no name for screen readers.
const nameless = { "#people button": "#people label, #people .label" };
const name = () => {
  for (const [buttons, label] of Object.entries(nameless)) {
    for (const button of document.querySelectorAll(buttons)) {
      if (button.textContent.trim() || button.getAttribute("aria-label")) continue;
      const text = document.querySelector(label);
      button.setAttribute("aria-label", text ? text.textContent.trim() : "picture");
    }
  }
};
new MutationObserver(name).observe(document, { childList: true, subtree: true });
