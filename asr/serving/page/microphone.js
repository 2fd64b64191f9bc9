// The microphone: its samples as they come.

// Open it; `onSamples` gets 16-bit integers. Returns the rate (Hz), and close(), which waits for the last samples.
export async function openMicrophone(onSamples) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("./microphone-worklet.js", import.meta.url));
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  const ended = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => (data ? onSamples(data) : resolve());
  });
  context.createMediaStreamSource(stream).connect(node);
  const close = async () => {
    node.port.postMessage("end");
    await ended;
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
  };
  return { rate: context.sampleRate, close };
}
