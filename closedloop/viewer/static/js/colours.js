// Grey pictures of signed values in colour: blue below zero, black at zero, orange above; told apart by colour-blind eyes, and by brightness.

const STOPS = [[-1, 222, 238, 255], [-0.6, 74, 160, 240], [0, 12, 13, 15], [0.6, 245, 130, 40], [1, 255, 236, 214]];

/** 256 colours as the little-endian words of ImageData; 127.5 is zero. */
const TABLE = Uint32Array.from({ length: 256 }, (_, grey) => {
  const value = (grey - 127.5) / 127.5;
  const above = Math.max(1, STOPS.findIndex(([at]) => value <= at));
  const [a, b] = [STOPS[above - 1], STOPS[above]];
  const share = (value - a[0]) / (b[0] - a[0]);
  const [red, green, blue] = [1, 2, 3].map((i) => Math.round(a[i] + share * (b[i] - a[i])));
  return (255 << 24) | (blue << 16) | (green << 8) | red;
});

/** The picture in colour, as a canvas. */
export function signed(picture) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i += 1) words[i] = TABLE[words[i] & 255];
  context.putImageData(image, 0, 0);
  return canvas;
}
