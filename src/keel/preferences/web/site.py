"""What the endpoints work with: one database, and how it is served."""

import time
from dataclasses import dataclass, field

from fastapi import Request

from keel.preferences.database import Database
from keel.preferences.desk import Desk
from keel.preferences.guidelines import Guideline, Guidelines
from keel.preferences.leases import Rules
from keel.preferences.people import Lifetimes, People
from keel.preferences.quality import Limits
from keel.preferences.store import PreferenceStore
from keel.preferences.web.hosts import Hosts
from keel.preferences.web.limits import Limiter, Rates
from keel.preferences.web.progress import ProgressBook
from keel.preferences.web.review import Reviews

PORT = 8765


@dataclass(frozen=True)
class Settings:
    """`address` is where people find the server, scheme and all; `pause`: annotators who miss too many gold items are
    paused by themselves. `review_seconds`: how long what reviewers read may be behind."""

    address: str = f"http://127.0.0.1:{PORT}"
    hosts: Hosts = field(default_factory=Hosts)
    port: int = PORT
    rules: Rules = field(default_factory=Rules)
    rates: Rates = field(default_factory=Rates)
    limits: Limits = field(default_factory=Limits)
    pause: bool = True
    review_seconds: float = 5.0
    seed: int = 0

    @property
    def secure(self) -> bool:
        """Whether people come by https, so that cookies are for https alone."""
        return self.address.startswith("https://")

    @property
    def cookie(self) -> str:
        """The session's cookie. Browsers keep cookies by host, not by port: two servers need two names."""
        return "keel_session" if self.port == PORT else f"keel_session_{self.port}"


class Site:
    """The parts of the server that outlive a request."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.store = PreferenceStore(database)
        self.desk = Desk(database, settings.rules, settings.seed)
        self.lifetimes = Lifetimes()
        self.people = People(database, self.lifetimes)
        self.guidelines = Guidelines(database)
        self.progress = ProgressBook(database)
        self.reviews = Reviews(database, settings.limits, settings.review_seconds)
        self.sign_ins = Limiter(settings.rates.sign_in)
        self.judging = Limiter(settings.rates.judge)
        self.asking = Limiter(settings.rates.ask)
        self._guideline = (0, 0.0)

    def guideline(self) -> int:
        """The newest version of the guidelines, two seconds old at most."""
        version, until = self._guideline
        now = time.monotonic()
        if now >= until:
            version = self.guidelines.current().version
            self._guideline = (version, now + 2)
        return version

    def publish(self, text: str, author: str) -> Guideline:
        """A new version of the guidelines, from now on."""
        published = self.guidelines.publish(text, author)
        self._guideline = (published.version, 0.0)
        return published


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    site: Site = request.app.state.site
    return site
