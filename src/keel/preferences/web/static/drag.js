/** Dragging one element of a list to another place, by mouse, pen or finger. */

const EDGE = 70;
const STEP = 14;

/**
 * Makes `handle` drag `card` within its list: `start()` once it moves, `moved(by)` for each place up (−1) or down (+1),
 * `end()` when it is let go. `moved` must move the neighbour and leave the card itself in the document: whatever leaves
 * it, if only for a moment, loses the pointer.
 */
export function draggable(handle, card, { start, moved, end }) {
  let from = null;
  let dragging = false;
  let pointer = 0;

  const follow = () => {
    if (!dragging) return;
    const bottom = document.getElementById("bar").getBoundingClientRect().top;
    if (pointer < EDGE) scrollBy(0, -STEP);
    else if (pointer > bottom - EDGE) scrollBy(0, STEP);
    step();
    requestAnimationFrame(follow);
  };

  const step = () => {
    const above = card.previousElementSibling;
    const below = card.nextElementSibling;
    if (above && pointer < middle(above)) moved(-1);
    else if (below && pointer > middle(below)) moved(+1);
  };

  handle.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = pointer = event.clientY;
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (from === null) return;
    pointer = event.clientY;
    if (dragging || Math.abs(pointer - from) < 5) return;
    dragging = true;
    start();
    // The cards shrink while one is dragged: it stays under the pointer.
    const box = handle.getBoundingClientRect();
    scrollBy(0, box.top + box.height / 2 - pointer);
    requestAnimationFrame(follow);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    handle.addEventListener(name, () => {
      from = null;
      if (!dragging) return;
      dragging = false;
      end();
    });
  }
}

function middle(element) {
  const box = element.getBoundingClientRect();
  return box.top + box.height / 2;
}
