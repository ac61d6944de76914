"use strict";
(() => {
  const dialog = document.getElementById("zoom");
  const pairs = [...document.querySelectorAll("figure.pair")];
  if (dialog && pairs.length) {
    let current = 0;
    const views = [...dialog.querySelectorAll("[data-view]")];
    const slots = [...dialog.querySelectorAll("figure img")];
    const look = (view) => {
      for (const slot of slots) slot.parentElement.hidden = view !== "all" && slot.parentElement.dataset.shows !== view;
      for (const button of views) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    };
    const fill = (index) => {
      current = (index + pairs.length) % pairs.length;
      const pair = pairs[current];
      [...pair.querySelectorAll("img")].forEach((image, place) => {
        slots[place].src = image.src;
        slots[place].alt = image.alt;
        slots[place].width = image.width;
        slots[place].height = image.height;
        slots[place].nextElementSibling.textContent = image.nextElementSibling.textContent;
      });
      dialog.classList.toggle("pixelated", pair.classList.contains("pixelated"));
      dialog.style.setProperty("--ratio", pair.dataset.width / pair.dataset.height);
      dialog.querySelector("h2").textContent = pair.dataset.name;
      dialog.querySelector(".facts").textContent = pair.dataset.facts;
      dialog.querySelector(".place").textContent = `${current + 1} of ${pairs.length}`;
    };
    const open = (index) => {
      fill(index);
      look("all");
      dialog.showModal();
    };
    pairs.forEach((pair, index) => {
      pair.querySelector("button").addEventListener("click", () => open(index));
      for (const image of pair.querySelectorAll("img")) image.addEventListener("click", () => open(index));
    });
    for (const button of views) button.addEventListener("click", () => look(button.dataset.view));
    dialog.querySelector(".back").addEventListener("click", () => fill(current - 1));
    dialog.querySelector(".on").addEventListener("click", () => fill(current + 1));
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") fill(current - 1);
      if (event.key === "ArrowRight") fill(current + 1);
    });
  }
  // What is folded away would be missing on paper.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });
  document.documentElement.classList.add("scripted");
})();
