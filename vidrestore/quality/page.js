for (const track of document.querySelectorAll(".track")) {
  const wipe = track.querySelector(".wipe");
  if (!wipe) continue;
  const sides = ["left", "right"], names = wipe.querySelectorAll("span");
  const samples = [...track.querySelectorAll(".sample")], pairs = [...track.querySelectorAll(".pairs button")];
  const press = (all, one) => all.forEach(b => b.setAttribute("aria-pressed", b === one));
  const show = () => {
    const sample = samples.find(b => b.ariaPressed === "true"), pair = pairs.find(b => b.ariaPressed === "true");
    sides.forEach((side, i) => {
      const role = pair.dataset[side], image = wipe.querySelector("img." + side), seen = sample.querySelector("img." + role);
      image.src = seen.src; image.alt = seen.alt; names[i].textContent = role;
    });
  };
  samples.forEach(b => b.addEventListener("click", () => { press(samples, b); show(); }));
  pairs.forEach(b => b.addEventListener("click", () => { press(pairs, b); show(); }));
}
