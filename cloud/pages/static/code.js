// The payment code: digits in numeric mode, level M, quiet zone 4, black on white.

import qrcodegen from "./qrcodegen.js";

const QUIET_ZONE = 4;
const SIDE_MIN = 300; // CSS pixels

export function draw(canvas, digits, roomInCssPixels) {
  const { QrCode, QrSegment } = qrcodegen;
  const segments = [QrSegment.makeNumeric(digits)];
  const code = QrCode.encodeSegments(segments, QrCode.Ecc.MEDIUM, 1, 40, -1, false);
  const modules = code.size + 2 * QUIET_ZONE;
  const density = window.devicePixelRatio || 1;
  // Whole device pixels a module, so that every module is as wide as the next.
  const room = Math.max(roomInCssPixels, SIDE_MIN) * density;
  const pixels = Math.max(Math.floor(room / modules), 1);
  canvas.width = canvas.height = modules * pixels;
  canvas.style.width = canvas.style.height = `${(modules * pixels) / density}px`;
  canvas.dataset.version = String((code.size - 17) / 4);
  const pen = canvas.getContext("2d", { alpha: false });
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#000";
  for (let y = 0; y < code.size; y++) {
    for (let x = 0; x < code.size; x++) {
      if (code.getModule(x, y)) {
        pen.fillRect((x + QUIET_ZONE) * pixels, (y + QUIET_ZONE) * pixels, pixels, pixels);
      }
    }
  }
}

export function wipe(canvas) {
  const pen = canvas.getContext("2d", { alpha: false });
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
}
