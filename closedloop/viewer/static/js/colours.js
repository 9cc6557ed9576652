// Grey pictures of signed values in colour: blue below zero, black at zero, orange above; told apart by colour-blind eyes, and by brightness.

const STOPS = [[-1, 222, 238, 255], [-0.6, 74, 160, 240], [0, 12, 13, 15], [0.6, 245, 130, 40], [1, 255, 236, 214]];

/** 256 colours as the little-endian words of ImageData. */
const words = (colour) => Uint32Array.from({ length: 256 }, (_, grey) => {
  const [red, green, blue] = colour(grey);
  return (255 << 24) | (blue << 16) | (green << 8) | red;
});

const GREY = words((grey) => [grey, grey, grey]);
const SIGNED = words((grey) => { // 127.5 is zero
  const value = (grey - 127.5) / 127.5;
  const above = Math.max(1, STOPS.findIndex(([at]) => value <= at));
  const [a, b] = [STOPS[above - 1], STOPS[above]];
  const share = (value - a[0]) / (b[0] - a[0]);
  return [1, 2, 3].map((i) => Math.round(a[i] + share * (b[i] - a[i])));
});

/** Bytes of grey, row by row, as a canvas: in colours where they stand for signed values. */
export function painted(bytes, width, height, signed) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const [table, pixels] = [signed ? SIGNED : GREY, new Uint32Array(image.data.buffer)];
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = table[bytes[i]];
  context.putImageData(image, 0, 0);
  return canvas;
}
