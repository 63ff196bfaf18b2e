// A picture in the page. Plotly changes the one that is there, so that what a visitor zoomed to, or switched on, stays
// while bars come; a new one is drawn where `revision` is another.
let loading;

function plotly(address) {
  if (window.Plotly) {
    return Promise.resolve(window.Plotly);
  }
  loading ??= new Promise((loaded, failed) => {
    // The page may be at it already.
    const there = document.querySelector(`script[src="${address}"]`);
    const script = there ?? document.createElement("script");
    script.addEventListener("load", () => loaded(window.Plotly));
    script.addEventListener("error", () => {
      loading = undefined; // the next picture asks again
      script.remove();
      failed(new Error(`${address} can't be loaded`));
    });
    if (!there) {
      script.src = address;
      document.head.append(script);
    }
  });
  return loading;
}

export default async function (component) {
  const { data, parentElement } = component;
  let plot = parentElement.querySelector(":scope > .lake-picture");
  if (!plot) {
    plot = document.createElement("div");
    plot.className = "lake-picture";
    plot.style.height = `${data.layout.height}px`;
    parentElement.append(plot);
  }
  plot.wanted = data;
  const library = await plotly(data.library);
  if (plot.wanted !== data) {
    return; // another one came while the library did
  }
  // Letters are the page's own, so that they fit light and dark.
  const { color, fontFamily } = getComputedStyle(parentElement);
  const layout = { ...data.layout, font: { color, family: fontFamily, size: 12 } };
  await library.react(plot, data.data, layout, data.config);
}
