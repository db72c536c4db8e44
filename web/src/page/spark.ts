// A line as high as a row of the table.

/** Colours, and the size in CSS pixels: asked for once, as an answer may cost a layout of the page. */
export interface SparkInk {
  line: string;
  dot: string;
  width: number;
  height: number;
}

export function spark(canvas: HTMLCanvasElement, values: readonly number[], ink: SparkInk): void {
  const ratio = devicePixelRatio || 1;
  const width = Math.round(ink.width * ratio);
  const height = Math.round(ink.height * ratio);
  if (width === 0 || height === 0) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  if (!pen) return;
  pen.clearRect(0, 0, width, height);
  if (values.length < 2) return;
  const least = Math.min(...values);
  const greatest = Math.max(...values);
  const pad = 3 * ratio;
  const x = (i: number) => pad + (i * (width - 2 * pad)) / (values.length - 1);
  const y = (value: number) =>
    greatest === least ? height / 2 : height - pad - ((value - least) * (height - 2 * pad)) / (greatest - least);
  pen.strokeStyle = ink.line;
  pen.lineWidth = 1.25 * ratio;
  pen.lineJoin = "round";
  pen.beginPath();
  values.forEach((value, i) => pen.lineTo(x(i), y(value)));
  pen.stroke();
  pen.fillStyle = ink.dot;
  pen.beginPath();
  pen.arc(x(values.length - 1), y(values.at(-1) as number), 1.9 * ratio, 0, 7);
  pen.fill();
}
