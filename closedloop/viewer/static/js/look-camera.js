// The camera: frames cut to the subject's square on this side, one at a time.

import { fill, h } from "./dom.js";

export class Camera {
  /** Draws on a canvas; `size` is [height, width] of what the subject sees. */
  constructor(canvas, size) {
    this.canvas = canvas;
    [canvas.height, canvas.width] = size;
    this.cut = [0, 1].map(() => h("canvas", { width: size[1], height: size[0] })); // one is shown while the other is filled
    this.turn = 0;
    this.video = h("video", { playsinline: true, muted: true });
    this.video.muted = true;
    this.stream = null;
  }

  get on() {
    return this.stream !== null;
  }

  /** Starts the camera with this id, or any; throws a sentence for people. */
  async start(id = "") {
    this.stop();
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("The browser gives a camera to https and to localhost only; from afar use an SSH tunnel.");
    const wish = { width: { ideal: 640 }, height: { ideal: 480 }, ...(id ? { deviceId: { exact: id } } : { facingMode: "environment" }) };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    } catch (error) {
      throw new Error(error.name === "NotAllowedError" ? "The browser was not allowed to use the camera." : `No camera: ${error.message}`);
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  /** Fills a <select> with the cameras there are; it stays hidden where there is one. */
  async list(select) {
    const all = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "videoinput");
    const running = this.stream?.getVideoTracks()[0]?.getSettings().deviceId;
    fill(select, all.map((d, i) => h("option", { value: d.deviceId, selected: d.deviceId === running }, d.label || `Camera ${i + 1}`)));
    select.hidden = all.length < 2;
  }

  /** Shows a frame that was grabbed. */
  show({ canvas }) {
    this.canvas.getContext("2d").drawImage(canvas, 0, 0);
  }

  /** The next frame {blob, canvas}: its middle, of the subject's shape, as a JPEG. Null where none has come yet. */
  async grab(stretch = false) {
    const { video } = this;
    const [vw, vh] = [video.videoWidth, video.videoHeight];
    if (!vw || !this.on) return null;
    this.turn = 1 - this.turn;
    const canvas = this.cut[this.turn];
    const scale = Math.min(vw / canvas.width, vh / canvas.height);
    const [w, tall] = stretch ? [vw, vh] : [canvas.width * scale, canvas.height * scale];
    canvas.getContext("2d").drawImage(video, (vw - w) / 2, (vh - tall) / 2, w, tall, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
    return { blob, canvas };
  }
}
