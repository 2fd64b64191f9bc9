// Plays stretches of the learner's recording and of the reference, one after the other where both are wanted.

let turn = 0; // of the last click: an earlier one stops

function play(audio, start, end, mine) {
  return new Promise((done) => {
    audio.currentTime = Math.max(0, start);
    const look = () => {
      if (mine === turn && !audio.paused && audio.currentTime < end) {
        requestAnimationFrame(look);
        return;
      }
      if (mine === turn) audio.pause();
      done();
    };
    audio.play().then(look, done);
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-start]");
  if (!button) return;
  turn += 1;
  const mine = turn;
  for (const audio of document.querySelectorAll("audio")) audio.pause();
  const section = button.closest("section");
  const wanted = document.querySelector("input[name=sounds]:checked")?.value ?? "learner";
  button.classList.add("playing");
  for (const who of ["learner", "reference"]) {
    const audio = section.querySelector(`audio.${who}`);
    const [start, end] = (button.dataset[who === "learner" ? "start" : "reference"] ?? "").split(" ");
    if (audio && start && mine === turn && (wanted === who || wanted === "both")) {
      await play(audio, Number(start), Number(who === "learner" ? button.dataset.end : end), mine);
    }
  }
  button.classList.remove("playing");
});
