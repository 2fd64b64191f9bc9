// Levels of sound by frequency.

export const WINDOW = 512; // samples of a spectrum

export function loudestOf(samples) {
  const step = Math.max(WINDOW, Math.floor(samples.length / 2000));
  let loudest = -Infinity;
  for (let i = 0; i < samples.length; i += step) loudest = Math.max(loudest, ...spectrum(samples, i));
  return loudest;
}

// The levels in dB of a window of samples, from 0 Hz to half the rate: a Hann window, and Cooley and Tukey's FFT.
export function spectrum(samples, start) {
  const real = new Float32Array(WINDOW), imaginary = new Float32Array(WINDOW);
  for (let i = 0, j = 0; i < WINDOW; i++) {
    real[j] = (samples[start + i] ?? 0) * (0.5 - 0.5 * Math.cos(2 * Math.PI * i / WINDOW));
    let bit = WINDOW >> 1; // j is i with its bits in reverse order
    while (j & bit) { j ^= bit; bit >>= 1; }
    j |= bit;
  }
  for (let size = 2; size <= WINDOW; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const cosine = Math.cos(2 * Math.PI * k / size), sine = -Math.sin(2 * Math.PI * k / size);
      for (let i = k; i < WINDOW; i += size) {
        const j = i + size / 2;
        const re = real[j] * cosine - imaginary[j] * sine, im = real[j] * sine + imaginary[j] * cosine;
        real[j] = real[i] - re; imaginary[j] = imaginary[i] - im;
        real[i] += re; imaginary[i] += im;
      }
    }
  }
  return real.slice(0, WINDOW / 2).map((re, i) => 10 * Math.log10(re * re + imaginary[i] ** 2 + 1e-10));
}
