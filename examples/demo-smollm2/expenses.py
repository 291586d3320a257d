"""Makes the demo's data: expense notes as people type them, and the one line of JSON that accounting wants.

All names are invented or ordinary words; the same seed gives the same rows.
"""

import json
import random

MERCHANTS = {
    "meals": ["Cafe Anton", "Bistro Nord", "Pizzeria Luna", "Noodle House", "The Green Fork", "Taverna Delos"],
    "travel": ["City Cabs", "Railway Direct", "Skyline Air", "Metro Pass Office", "Harbor Ferries", "Blue Coach Lines"],
    "lodging": ["Hotel Meridian", "Park Inn", "Guesthouse Alma", "Riverside Suites", "Hotel Fjord", "The Old Mill"],
    "office": ["Paper and Pen", "Desk Depot", "Ink World", "Cable Corner", "Office Basics", "Print Point"],
    "software": ["Cloudbox", "Mailforge", "Chartly", "Notewell", "Gitpress", "Formsmith"],
}
REASONS = {
    "meals": ["lunch with a client", "team dinner", "coffee with an applicant", "breakfast before the fair"],
    "travel": [
        "ride to the airport",
        "ticket to the workshop",
        "trip to the warehouse",
        "way home after the late shift",
    ],
    "lodging": [
        "two nights for the conference",
        "one night before the audit",
        "room for the trainer",
        "stay during the move",
    ],
    "office": ["toner for the printer", "folders for the archive", "a new keyboard", "labels for the stock room"],
    "software": ["the yearly plan", "five more seats", "an upgrade of our account", "the monthly fee"],
}
CURRENCIES = {"EUR": ["euros", "EUR", "€"], "USD": ["dollars", "USD", "$"], "GBP": ["pounds", "GBP", "£"]}
PAYMENTS = {
    "card": ["by card", "with the company card"],
    "cash": ["in cash", "with cash"],
    "transfer": ["by bank transfer", "by transfer"],
}
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def one(rng: random.Random) -> tuple[str, str]:
    """A note and its answer."""
    category = rng.choice(list(MERCHANTS))
    merchant, reason = rng.choice(MERCHANTS[category]), rng.choice(REASONS[category])
    currency, payment = rng.choice(list(CURRENCIES)), rng.choice(list(PAYMENTS))
    amount = f"{rng.randrange(300, 49999) / 100:.2f}"
    month, day = rng.randrange(12), rng.randrange(1, 29)
    word = rng.choice(CURRENCIES[currency])
    money = f"{word}{amount}" if word in "€$£" else f"{amount} {word}"
    when = rng.choice([f"on {day} {MONTHS[month]}", f"on {MONTHS[month]} {day}", f"({day}. {MONTHS[month][:3]})"])
    how = rng.choice(PAYMENTS[payment])
    note = rng.choice(
        [
            f"{reason.capitalize()}, {merchant}, {money}, paid {how} {when}.",
            f"Paid {money} to {merchant} {when} {how}: {reason}.",
            f"{when.strip('()').capitalize()}: {merchant}, {reason}. {money}, {how}.",
            f"Hi, please refund {money} for {reason} at {merchant} {when}, I paid {how}. Thanks!",
        ]
    )
    answer = {
        "date": f"{month + 1:02d}-{day:02d}",
        "merchant": merchant,
        "category": category,
        "amount": amount,
        "currency": currency,
        "payment": payment,
    }
    return note, json.dumps(answer)


def rows(count: int, seed: int, without: frozenset[str] = frozenset()) -> list[dict]:
    """`count` chats, no note twice and none of `without`."""
    rng, seen, result = random.Random(seed), set(without), []
    while len(result) < count:
        note, answer = one(rng)
        if note not in seen:
            seen.add(note)
            result.append({"messages": [{"role": "user", "content": note}, {"role": "assistant", "content": answer}]})
    return result
