/** What the buttons are called. */

export const STRONGEST = 3;

const STEPS = ["no difference", "slightly better", "better", "much better"];
const ON_A_PHONE = matchMedia("(max-width: 760px)");

/** The two places, where they stand on this screen: side by side, or one over the other. */
export function sides() {
  return ON_A_PHONE.matches ? ["top", "bottom"] : ["left", "right"];
}

/** `act` whenever the places change their names. */
export function whenSidesChange(act) {
  ON_A_PHONE.addEventListener("change", act);
}

/** A number of −3 … +3 in words, for these two names: −3 of left and right is "left much better". */
export function stepWords(step, [one, other]) {
  const words = STEPS[Math.abs(step)];
  return step === 0 ? words : `${step < 0 ? one : other} ${words}`;
}

/** A button of this page in words. */
export function pressedWords(pressed) {
  return stepWords(pressed, sides());
}

/** As the reviewer reads the name of a button: "+1" is "right slightly better", "both bad" itself. */
export function buttonWords(button) {
  const pressed = Number(button);
  return Number.isNaN(pressed) ? button : stepWords(pressed, ["left", "right"]);
}

/** Answers of a ranking have letters, by the places where they were served. */
export function letter(place) {
  return String.fromCharCode(65 + place);
}

/** What is said instead of a verdict. */
export const DECLINES = { both_bad: "both bad", skip: "skipped", flag: "flagged" };

/** What was said, in a few words. `verdict` is the body of a judgement. */
export function verdictWords(verdict) {
  if (typeof verdict.pressed === "number") return pressedWords(verdict.pressed);
  if (verdict.places) return verdict.places.map(letter).join(" before ");
  return DECLINES[verdict.decline];
}
