// Levels of sound by frequency: a Hann window, and Cooley and Tukey's FFT.

export const WINDOW = 512; // samples of a spectrum

const HANN = Float32Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
const COSINE = Float32Array.from({ length: WINDOW / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / WINDOW));
const SINE = Float32Array.from({ length: WINDOW / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / WINDOW));
const REVERSED = Uint16Array.from({ length: WINDOW }, (_, i) => {
  let found = 0;
  for (let bit = 1; bit < WINDOW; bit *= 2) found = 2 * found + (i & bit ? 1 : 0);
  return found;
});
const real = new Float32Array(WINDOW), imaginary = new Float32Array(WINDOW);

// Add to `powers` (WINDOW / 2), from 0 Hz to half the rate, those of the samples (int16) from `start` on.
export function addPowers(samples, start, powers) {
  for (let i = 0; i < WINDOW; i++) real[REVERSED[i]] = ((samples[start + i] ?? 0) / 32768) * HANN[i];
  imaginary.fill(0);
  for (let size = 2; size <= WINDOW; size *= 2) {
    const half = size / 2, step = WINDOW / size;
    for (let first = 0; first < WINDOW; first += size) {
      for (let k = 0; k < half; k++) {
        const i = first + k, j = i + half, cosine = COSINE[k * step], sine = SINE[k * step];
        const re = real[j] * cosine - imaginary[j] * sine, im = real[j] * sine + imaginary[j] * cosine;
        real[j] = real[i] - re; imaginary[j] = imaginary[i] - im;
        real[i] += re; imaginary[i] += im;
      }
    }
  }
  for (let i = 0; i < WINDOW / 2; i++) powers[i] += real[i] ** 2 + imaginary[i] ** 2;
}

export const level = (power) => 10 * Math.log10(power + 1e-10); // dB
