"""People who have judged already, so that a reviewer has something to look at."""

from random import Random

from keel.preferences.leases import Verdict
from tests.web.place import Place, pair, pairs


def crowd(place: Place, names: tuple[str, ...] = ("Mira", "Jon", "Öykü"), items: int = 12) -> None:
    """Everybody judges all items; the last name presses left whatever there is."""
    chance = Random(5)
    place.ask(pairs(items), wanted=len(names))
    gold = [pair(f"gold-{number}", f"What is {number} + {number}?", str(2 * number), "7") for number in range(10, 22)]
    place.site.store.add_items(gold)
    for item in gold:
        place.site.desk.enqueue_gold(item, -1)
    for name in names:
        place.site.people.invite(name, "annotator")
        while served := place.site.desk.serve(name, 1):
            shown = served[0].shown.assignment
            better = -2 if shown.shown[0] == 0 else 2
            pressed = -3 if name == names[-1] else better if chance.random() < 0.8 else -better
            place.site.desk.submit(name, served[0].token, Verdict(pressed=pressed), "1")
