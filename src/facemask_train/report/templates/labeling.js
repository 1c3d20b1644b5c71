"use strict";
const get = (id) => document.getElementById(id);
const questions = JSON.parse(get("questions").textContent);
let at = Math.max(0, questions.findIndex((one) => !one.answer));
let busy = false;

function show() {
  const one = questions[at];
  const answered = questions.filter((other) => other.answer).length;
  get("place").textContent = `${at + 1} of ${questions.length}, ${answered} answered`;
  get("done").value = answered;
  get("question").textContent = one.text;
  get("detail").textContent = one.detail;
  get("crop").src = `image/${at}`;
  get("crop").alt = one.alt;
  get("choices").replaceChildren(...one.choices.map((choice) => button(choice, one.answer === choice.key)));
  get("undo").disabled = !one.answer;
  get("back").disabled = at === 0;
  get("skip").disabled = at === questions.length - 1;
  if (at + 1 < questions.length) new Image().src = `image/${at + 1}`;
}

function button(choice, chosen) {
  const made = document.createElement("button");
  const key = document.createElement("kbd");
  made.type = "button";
  made.setAttribute("aria-pressed", chosen);
  key.textContent = choice.key;
  made.append(key, ` ${choice.text}`);
  made.addEventListener("click", () => answer(choice.key));
  return made;
}

async function answer(key) {
  if (busy) return;
  busy = true;
  const number = at;
  try {
    const reply = await fetch("answer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ question: number, choice: key }),
    });
    if (!reply.ok) throw new Error(await reply.text());
    questions[number].answer = key;
    const left = questions.some((one) => !one.answer);
    get("saved").textContent = !key ? "Taken back." : left ? "Saved." : "Saved. Everything is answered; you can close this page.";
    if (key && at < questions.length - 1) at += 1;
  } catch (error) {
    get("saved").textContent = `Not saved: ${error.message || "the server does not answer"}`;
  }
  busy = false;
  show();
}

function move(step) {
  if (busy) return;
  at = Math.min(questions.length - 1, Math.max(0, at + step));
  get("saved").textContent = "";
  show();
}

get("back").addEventListener("click", () => move(-1));
get("skip").addEventListener("click", () => move(1));
get("undo").addEventListener("click", () => answer(""));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "arrowleft") move(-1);
  else if (key === "arrowright") move(1);
  else if (key === "u" && questions[at].answer) answer("");
  else if (questions[at].choices.some((choice) => choice.key === key)) answer(key);
  else return;
  event.preventDefault();
});
show();
