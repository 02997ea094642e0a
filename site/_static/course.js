// What is wider than the page scrolls inside its frame; the keyboard must reach it too.
document.addEventListener("DOMContentLoaded", () => {
  for (const frame of document.querySelectorAll(".output.text_html, .bd-article table, pre")) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
  }
});

// A search's excerpt: the article's own words, without the theme's menus. The index knows stems; the
// stem "vocabulari" stands in no text, and its beginning without the last i does.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined" || !Search.makeSearchSummary) return;
  const summary = Search.makeSearchSummary;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const article = page.querySelector("article.bd-article") || page.querySelector('[role="main"]');
    if (!article) return "";
    article.querySelectorAll(".headerlink, script, style").forEach((part) => part.remove());
    const part = anchor && page.getElementById(anchor.replace(/^#/, ""));
    return (part || article).textContent;
  };
  Search.makeSearchSummary = (html, keywords, anchor) =>
    summary(html, new Set([...keywords].map((stem) => (stem.length > 3 ? stem.replace(/i$/, "") : stem))), anchor);
});
