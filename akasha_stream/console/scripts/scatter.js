// Points on a canvas. Coordinates from -1 to 1, in one scale for both axes.

const NEAR_PX = 14;
const colours = new Map();

/** A colour for each name; by the alphabet, so that the same names have the same ones on every visit. */
export function colour(names) {
  // The golden angle: however many there are, neighbours are far apart on the wheel.
  [...names].sort().forEach((name, i) => colours.set(name, `oklch(${60 + (i % 3) * 6}% 0.16 ${(20 + i * 137.508) % 360})`));
}

export const colourOf = (name) => colours.get(name) ?? "gray";

export function drawing(canvas) {
  let points = [], only = null, marked = null, drawn = false;
  const again = new ResizeObserver(() => draw());
  const theme = () => draw();
  again.observe(canvas);
  addEventListener("akasha:theme", theme);

  function place({ x, y }) {
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = Math.min(width, height * 1.4) / 2 - 18;
    return [width / 2 + x * scale, height / 2 - y * Math.min(scale, height / 2 - 18)];
  }
  function draw() {
    if (drawn) return;
    drawn = true;
    requestAnimationFrame(() => {
      drawn = false;
      const ratio = devicePixelRatio || 1;
      canvas.width = canvas.clientWidth * ratio;
      canvas.height = canvas.clientHeight * ratio;
      const on = canvas.getContext("2d");
      on.scale(ratio, ratio);
      const size = points.length > 1_500 ? 2.6 : 3.4;
      for (const faint of [true, false])
        for (const point of points) {
          if (faint !== (only !== null && point.source_system !== only)) continue;
          on.globalAlpha = faint ? 0.12 : 0.82;
          on.fillStyle = colourOf(point.source_system);
          dot(on, point, size);
        }
      on.globalAlpha = 1;
      if (marked) {
        on.fillStyle = colourOf(marked.source_system);
        on.strokeStyle = getComputedStyle(canvas).color;
        on.lineWidth = 2;
        dot(on, marked, 6);
        on.stroke();
      }
    });
  }
  function dot(on, point, size) {
    on.beginPath();
    on.arc(...place(point), size, 0, 2 * Math.PI);
    on.fill();
  }
  return {
    show(all, system) {
      points = all;
      only = system;
      draw();
    },
    mark(point) {
      if (marked === point) return;
      marked = point;
      draw();
    },
    /** The nearest point to a place on the canvas, where one is near: {point, x, y}. */
    at(x, y) {
      let found = null, nearest = NEAR_PX;
      for (const point of points) {
        if (only !== null && point.source_system !== only) continue;
        const [px, py] = place(point);
        const distance = Math.hypot(px - x, py - y);
        if (distance < nearest) {
          nearest = distance;
          found = { point, x: px, y: py };
        }
      }
      return found;
    },
    stop() {
      again.disconnect();
      removeEventListener("akasha:theme", theme);
    },
  };
}
