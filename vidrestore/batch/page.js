const body = document.querySelector("tbody"), heads = [...document.querySelectorAll("thead th")];
const value = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent;
heads.forEach((head, i) => head.querySelector("button")?.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending", text = "text" in head.dataset;
  heads.forEach(h => h.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const order = (a, b) => text ? value(a, i).localeCompare(value(b, i), undefined, { numeric: true }) : value(a, i) - value(b, i);
  body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
}));
const dialog = document.querySelector("dialog"), wipe = dialog.querySelector(".wipe"), range = wipe.querySelector("input");
const shown = wipe.querySelector(".right");
shown.addEventListener("load", () => wipe.style.setProperty("--ratio", shown.naturalWidth / shown.naturalHeight));
for (const button of document.querySelectorAll("td button")) button.addEventListener("click", () => {
  wipe.querySelector(".left").src = button.dataset.before;
  shown.src = button.dataset.after;
  dialog.querySelector("h2").textContent = button.dataset.name;
  dialog.querySelector(".course").replaceChildren(button.parentElement.querySelector("template").content.cloneNode(true));
  range.value = 50; range.dispatchEvent(new Event("input")); dialog.showModal();
});
