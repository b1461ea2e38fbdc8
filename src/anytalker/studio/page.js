document.documentElement.lang = "en";
document.addEventListener("click", (event) => {
  if (!event.target.closest || !event.target.closest("[data-play-both]")) return;
  for (const video of document.querySelectorAll(".compared video")) {
    video.currentTime = 0;
    video.play();
  }
});
