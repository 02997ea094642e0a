// What is wider than the page scrolls inside its frame; the keyboard must reach it too.
document.addEventListener("DOMContentLoaded", () => {
  for (const frame of document.querySelectorAll(".output.text_html, .bd-article table, pre")) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
  }
});
