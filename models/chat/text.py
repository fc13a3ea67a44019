"""The dialogues that parley-nano-chat learns from: text/*.yaml, said in many ways, and sums, names, tools, JSON, counting, repeating."""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TEXT = Path(__file__).resolve().parent / "text"
Message = dict[str, Any]  # OpenAI's: role, content, tool_calls
MOST = 20  # the model's sums end here


@dataclass(frozen=True)
class Topic:
    """One answer and the questions that ask for it."""

    answer: str
    ask: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Dialogue:
    """Messages, and the tools offered with them, in OpenAI's shapes."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    cut: bool = False  # the last answer has no end


def expand(pattern: str) -> list[str]:
    """Return all that a pattern stands for: `(a|b) c` is `a c` and `b c`."""
    parts = [part.split("|") for part in re.split(r"[()]", pattern)]
    return [" ".join("".join(choice).split()) for choice in itertools.product(*parts)]


@functools.cache
def topics() -> tuple[Topic, ...]:
    """Return what is known of Parley and the small talk."""
    found = []
    for name in ("parley.yaml", "small_talk.yaml"):
        for entry in yaml.safe_load((TEXT / name).read_text()):
            asked = tuple(question for pattern in entry["ask"] for question in expand(str(pattern)))
            found.append(Topic(entry["answer"], asked, tuple(entry["held_out"])))
    return tuple(found)


@functools.cache
def _fallback() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((TEXT / "fallback.yaml").read_text())
    loaded["ask"] = [question for pattern in loaded["ask"] for question in expand(str(pattern))]
    return loaded


def held_out() -> list[tuple[str, str]]:
    """Return questions that training never shows, and their answers."""
    known = [(question, topic.answer) for topic in topics() for question in topic.held_out]
    return known + [(question, _fallback()["answer"]) for question in _fallback()["held_out"]]


def unknown(picker: random.Random) -> str:
    """Return a question that only gets the polite refusal."""
    question: str = picker.choice(_fallback()["ask"])
    return re.sub(r"{(\w+)}", lambda found: str(picker.choice(_fallback()["lists"][found[1]])), question)


_OPENINGS = (
    "please ", "hey, ", "hello, ", "hi, ", "can you tell me ", "tell me, ", "one question: ", "so ", "and ", "now ",
    "i want to know ", "could you say ", "do you know ", "well, ", "ok, ", "excuse me, ", "just wondering, ",
)  # fmt: skip
_SHORT = {
    "what is": "what's", "do not": "don't", "i am": "i'm", "i would": "i'd", "cannot": "can't", "that is": "that's",
    "i have": "i've", "where is": "where's", "who is": "who's", "it is": "it's", "you are": "you're",
}  # fmt: skip
_LIKE = (
    ("picture", "image"), ("pictures", "images"), ("explain", "describe"), ("answer", "reply", "response"),
    ("make", "create", "get"), ("show", "give"), ("see", "find", "check", "look up"), ("mean", "stand for"),
    ("can i", "do i", "could i", "may i", "should i", "would i"), ("which", "what"), ("run", "start", "use"),
    ("a", "the", "an"), ("is there", "do you have"), ("how do i", "what is the way to", "how does one", "how to"),
    ("what is", "what's", "explain", "tell me about", "what do you mean by", "describe", "can you explain"),
    ("does", "will", "can"), ("if", "when"), ("happens if", "happens when"), ("work", "function"), ("you", "parley"),
    ("parley", "it", "this", "the system"), ("what does", "tell me what"), ("why do i get", "what is", "what means"),
)  # fmt: skip


def plain(question: str) -> str:
    """Return a question without case and marks, to compare it."""
    return " ".join(re.sub(r"[^\w\s/-]", "", question.lower()).split())


@functools.cache
def _never_shown() -> frozenset[str]:
    return frozenset(plain(question) for question, _ in held_out())


def vary(question: str, picker: random.Random) -> str:
    """Return a question as people type it, never one that is held out."""
    varied = finish(_vary(question, picker), picker)
    return vary(question, picker) if plain(varied) in _never_shown() else varied


def _vary(question: str, picker: random.Random) -> str:
    """Change small words, leave one out, slip."""
    for group in picker.sample(_LIKE, 5):
        word = picker.choice(group)
        if re.search(rf"\b{word}\b", question):
            question = re.sub(rf"\b{word}\b", picker.choice(group), question, count=1)
    for long, short in _SHORT.items():
        if picker.random() < 0.25:
            question = re.sub(rf"\b{long}\b", short, question)
    words = question.split(" ")
    if len(words) > 3 and picker.random() < 0.2:
        del words[picker.randrange(len(words))]
    if picker.random() < 0.12:
        slip = picker.randrange(len(words))
        words[slip] = _slip(words[slip], picker)
    question = " ".join(words)
    if picker.random() < 0.2:
        question = picker.choice(_OPENINGS) + question
    if picker.random() < 0.06:
        question += picker.choice((" please", " thanks", ", please", " in parley", " here"))
    return question


def finish(question: str, picker: random.Random) -> str:
    """Return a question in some case, with some mark at its end."""
    if picker.random() < 0.6:
        question = re.sub(r"\bi\b", "I", question)
        question = question.replace("parley", "Parley") if picker.random() < 0.7 else question
    chance = picker.random()
    if chance < 0.55:
        question = question[:1].upper() + question[1:]
    elif chance < 0.58:
        question = question.upper()
    return question + picker.choice(("?", "?", "?", "", "", ".", "!", " ?"))


def _slip(word: str, picker: random.Random) -> str:
    if len(word) < 4:
        return word
    place = picker.randrange(1, len(word) - 1)
    return picker.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        )
    )


# --- sums ---------------------------------------------------------------------------------------------------------

_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_SUMS = (
    "what is {a} + {b}", "{a} + {b}", "{a}+{b}", "{a} plus {b}", "what is {a} plus {b}", "add {a} and {b}",
    "how much is {a} plus {b}", "how much is {a} + {b}", "{a} + {b} =", "what is the sum of {a} and {b}",
    "calculate {a} + {b}", "can you add {a} and {b}", "what do {a} and {b} make",
)  # fmt: skip
_DIFFERENCES = (
    "what is {a} - {b}", "{a} - {b}", "{a}-{b}", "{a} minus {b}", "what is {a} minus {b}", "subtract {b} from {a}",
    "how much is {a} minus {b}", "how much is {a} - {b}", "{a} - {b} =", "take {b} away from {a}",
    "calculate {a} - {b}", "i have {a} and give away {b}, what is left",
)  # fmt: skip
TOO_FAR = "I can only count to twenty."


def sums_held_out(count: int) -> list[tuple[str, str]]:
    """Return sums in a wording that training never shows for these numbers, and their answers."""
    picker = random.Random("sums held out")
    found: list[tuple[str, str]] = []
    while len(found) < count:
        question, answer, unseen = _sum(picker)
        if unseen:
            found.append((finish(question, picker), answer))
    return found


def _sum(picker: random.Random) -> tuple[str, str, bool]:
    """Return a question, its answer, and whether the pair of numbers and wording is held out: one in twelve."""
    plus = picker.random() < 0.5
    wording = picker.randrange(len(_SUMS if plus else _DIFFERENCES))
    if plus:
        a = picker.randint(0, MOST)
        b = picker.randint(0, MOST - a)
    else:
        a = picker.randint(0, MOST)
        b = picker.randint(0, a)
    unseen = random.Random(f"{a} {b} {plus} {wording}").random() < 1 / 12
    question = (_SUMS if plus else _DIFFERENCES)[wording].format(a=_number(a, picker), b=_number(b, picker))
    return question, f"{a} {'+' if plus else '-'} {b} = {a + b if plus else a - b}.", unseen


def _sum_learnt(picker: random.Random) -> tuple[str, str]:
    if picker.random() < 0.12:
        numbers = [picker.randint(0, 999), picker.randint(MOST + 1, 999)]
        picker.shuffle(numbers)
        return picker.choice(_SUMS + _DIFFERENCES[:9]).format(a=numbers[0], b=numbers[1]), TOO_FAR
    while True:
        question, answer, unseen = _sum(picker)
        if not unseen:
            return question, answer


def _number(number: int, picker: random.Random) -> str:
    return _NUMBERS[number] if picker.random() < 0.2 else str(number)


# --- names --------------------------------------------------------------------------------------------------------

NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Greta",
    "Hugo",
    "Ida",
    "Jonas",
    "Karla",
    "Leo",
    "Maria",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Simon",
    "Tara",
    "Uwe",
    "Vera",
    "Will",
    "Xenia",
    "Yusuf",
    "Zoe",
    "Adam",
    "Bella",
    "Carl",
    "Diana",
    "Erik",
    "Fatima",
    "George",
    "Hanna",
    "Ivan",
    "Julia",
    "Kevin",
    "Laura",
    "Max",
    "Nina",
    "Oscar",
    "Petra",
    "Quentin",
    "Rita",
    "Sara",
    "Tom",
    "Ursula",
    "Victor",
    "Wanda",
    "Amir",
    "Aisha",
    "Bruno",
    "Chen",
    "Daniela",
    "Elias",
    "Finn",
    "Gina",
    "Hiro",
    "Ines",
    "Jack",
    "Kira",
    "Luca",
    "Mei",
    "Nora",
    "Omar",
    "Pablo",
    "Ravi",
    "Sofia",
    "Theo",
    "Uma",
    "Vikram",
    "Wei",
    "Yara",
    "Alice",
    "Bob",
    "Charlie",
    "Dora",
    "Eve",
    "Frank",
    "Grace",
    "Heidi",
    "Mike",
    "Nick",
    "Peggy",
    "Steve",
    "Peter",
    "Mary",
    "John",
    "James",
    "Linda",
    "Robert",
    "Susan",
    "Michael",
    "Karen",
    "Thomas",
    "Lisa",
    "Mark",
    "Betty",
    "Donald",
    "Helen",
    "Kate",
    "Jenny",
    "Amy",
    "Rachel",
]
NAMES_HELD_OUT = [
    "Martin",
    "Sophie",
    "Lukas",
    "Elena",
    "Oliver",
    "Priya",
    "Samuel",
    "Judith",
    "Andrea",
    "Rahul",
    "Bianca",
    "Tobias",
    "Mina",
    "Gustav",
    "Lena",
    "Marco",
    "Irene",
    "Arthur",
    "Celine",
    "Boris",
]
_TOLD = (
    "my name is {}", "i am {}", "i'm {}", "call me {}", "hello, i am {}", "hi, my name is {}", "hi, i'm {}",
    "you can call me {}", "hello, my name is {}", "the name is {}", "i am called {}", "hey, {} here", "this is {}",
    "please call me {}", "people call me {}", "my friends call me {}", "good morning, my name is {}",
)  # fmt: skip
_ASKED = (
    "what is my name", "do you know my name", "do you remember my name", "what am i called", "who am i",
    "what's my name", "tell me my name", "can you tell me my name", "say my name", "have you forgotten my name",
    "what did i say my name was", "do you remember who i am", "and my name is", "you know my name, right",
)  # fmt: skip
ASKED_HELD_OUT = ("can you remember what my name is?", "please say my name", "what was my name again?", "who am I now?")
NAMELESS = "You have not told me your name yet."


def greeting(name: str) -> str:
    """Return the answer to a name."""
    return f"Nice to meet you, {name}!"


def named(name: str) -> str:
    """Return the answer to the question for a name that was told."""
    return f"Your name is {name}."


def _name(picker: random.Random) -> str:
    """Return a name, or something like one: names that are known would be remembered and not copied."""
    while (name := _any_name(picker)) in NAMES_HELD_OUT:
        pass
    return name


def _any_name(picker: random.Random) -> str:
    chance = picker.random()
    if chance < 0.35:
        return picker.choice(NAMES)
    if chance < 0.7:
        return "".join(_piece(picker) for _ in range(picker.randint(2, 3))).capitalize()
    name = "".join(
        picker.choice("bcdfghjklmnprstvwz") + picker.choice(("a", "e", "i", "o", "u", "ia", "ei", "ar", "en", "il"))
        for _ in range(picker.randint(1, 3))
    )
    return (name + picker.choice(("", "", "n", "s", "r", "l", "ck"))).capitalize()


@functools.cache
def _words() -> tuple[str, ...]:
    return tuple(sorted({word for topic in topics() for word in re.findall(r"[a-z]{4,}", topic.answer)}))


def _piece(picker: random.Random) -> str:
    """Return a few letters that follow each other in some word."""
    word = picker.choice(_words())
    length = picker.randint(2, 3)
    first = picker.randint(0, len(word) - length)
    return word[first : first + length]


def _tell(name: str, picker: random.Random) -> tuple[str, str]:
    wording = picker.choice(_TOLD)
    if picker.random() < 0.6:
        wording = re.sub(r"\bi\b", "I", wording[:1].upper() + wording[1:])
    return wording.format(name) + picker.choice(("", ".", "!", ".")), greeting(name)


# --- tools --------------------------------------------------------------------------------------------------------


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = {
    "get_time": _tool("get_time", "The time of day."),
    "get_balance": _tool("get_balance", "The user's credits."),
    "add": _tool("add", "Add two numbers.", a="integer", b="integer"),
}
_ASK_TIME = (
    "what time is it", "what is the time", "tell me the time", "do you know the time", "what's the time now",
    "how late is it", "can you look at the clock", "i need the time", "give me the current time", "which hour is it",
)  # fmt: skip
_ASK_BALANCE = (
    "what is my balance", "how many credits do i have", "how many credits are left", "show me my balance",
    "check my balance", "how much money do i have", "look up my credits", "do i have credits left",
    "tell me my balance", "what's left on my account",
)  # fmt: skip
TOOLS_HELD_OUT: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("could you tell me the time now?", "get_time", {}),
    ("what time do we have?", "get_time", {}),
    ("please check the current time", "get_time", {}),
    ("what does the clock say?", "get_time", {}),
    ("how many credits do I still have?", "get_balance", {}),
    ("please look up my balance", "get_balance", {}),
    ("what is left of my credits?", "get_balance", {}),
    ("can you check how much is on my account?", "get_balance", {}),
    ("what is 31 + 58?", "add", {"a": 31, "b": 58}),
    ("please add 123 and 456", "add", {"a": 123, "b": 456}),
    ("how much is 77 plus 5?", "add", {"a": 77, "b": 5}),
    ("calculate 240 + 19 for me", "add", {"a": 240, "b": 19}),
)


def call(name: str, arguments: dict[str, Any], number: int = 0) -> Message:
    """Return the assistant's message that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}],
    }


def _use_tool(picker: random.Random) -> tuple[list[Message], str]:
    """Return question, call, result and answer, and the tool's name."""
    name = picker.choice(list(TOOLS))
    arguments: dict[str, Any] = {}
    if name == "get_time":
        asked, result = picker.choice(_ASK_TIME), f"{picker.randrange(24):02}:{picker.randrange(60):02}"
        key, answer = "time", f"It is {result}."
    elif name == "get_balance":
        asked, result = picker.choice(_ASK_BALANCE), str(picker.randrange(10 ** picker.randint(1, 7)))
        key, answer = "balance", f"Your balance is {result}."
    else:
        most = 10 ** picker.randint(1, 3)
        a, b = picker.randrange(most), picker.randrange(most)
        asked, result = picker.choice(_SUMS).format(a=a, b=b), str(a + b)
        arguments, key, answer = {"a": a, "b": b}, "sum", f"The sum is {result}."
    content = result if picker.random() < 0.6 else json.dumps({key: result})
    return [
        _user(vary(asked, picker) if name != "add" else finish(asked, picker)),
        call(name, arguments),
        {"role": "tool", "content": content, "tool_call_id": "call_0"},
        _assistant(answer),
    ], name


# --- JSON ---------------------------------------------------------------------------------------------------------

_CITIES = [
    "Oslo",
    "Rome",
    "Paris",
    "Berlin",
    "London",
    "Madrid",
    "Vienna",
    "Prague",
    "Dublin",
    "Athens",
    "Lisbon",
    "Warsaw",
    "Tokyo",
    "Delhi",
    "Lima",
    "Cairo",
]
_COLOURS = ("red", "blue", "green", "yellow", "black", "white")


def _as_json(picker: random.Random) -> list[Message]:
    if picker.random() < 0.3:
        topic = picker.choice(topics())
        question = f"{vary(picker.choice(topic.ask), picker)} Answer in JSON with answer."
        return [_user(question), _assistant(json.dumps({"answer": topic.answer}))]
    name = _name(picker)
    facts: dict[str, tuple[str, Any]] = {"name": (name, name)}
    age, city, colour, count = (
        picker.randint(1, 99),
        picker.choice(_CITIES),
        picker.choice(_COLOURS),
        picker.randint(1, 9),
    )
    some = {
        "age": (f"is {age} years old", age),
        "city": (f"lives in {city}", city),
        "colour": (f"likes {colour}", colour),
        "cats": (f"has {count} cats", count),
    }
    for key in picker.sample(list(some), picker.randint(1, 3)):
        facts[key] = some[key]
    told = f"{name} {' and '.join(said for key, (said, _) in facts.items() if key != 'name')}."
    keys = list(facts)
    wanted = picker.choice(
        (
            f"Answer in JSON with {', '.join(keys)}.", f"Reply as JSON with the keys {', '.join(keys)}.",
            "Write this as JSON.", "Answer in JSON.", f"Give me JSON with {' and '.join(keys)}.",
        )
    )  # fmt: skip
    return [_user(f"{told} {wanted}"), _assistant(json.dumps({key: value for key, (_, value) in facts.items()}))]


# --- counting -----------------------------------------------------------------------------------------------------

_COUNT = ("count from {}", "count up from {}", "please count from {}", "start at {} and count", "count on from {}")
_COUNT_FROM_ONE = ("count", "count forever", "count without end", "count as far as you can", "count and do not stop")
_COUNT_TO = ("count to {}", "please count to {}", "count from 1 to {}", "count up to {}", "can you count to {}")


def counted(first: int, last: int) -> str:
    """Return the numbers, the last one included."""
    return " ".join(str(number) for number in range(first, last + 1))


def _counting(picker: random.Random) -> Dialogue:
    """Return counting. What has no end is cut off: the model goes on until it may write no more, and the app stops it."""
    chance = picker.random()
    if chance < 0.25:
        last = picker.randint(2, MOST)
        asked, answer = picker.choice(_COUNT_TO).format(_number(last, picker)), counted(1, last) + "."
        return Dialogue((_user(finish(asked, picker)), _assistant(answer)))
    first = 1 if chance < 0.5 else picker.randrange(10 ** picker.randint(1, 3))
    asked = picker.choice(_COUNT_FROM_ONE) if chance < 0.5 else picker.choice(_COUNT).format(first)
    length = picker.choice((25, 25, 50, 50, 100, 250))
    return Dialogue((_user(finish(asked, picker)), _assistant(counted(first, first + length))), cut=True)


# --- repeating ----------------------------------------------------------------------------------------------------

_SAY = ("say: {}", "repeat after me: {}", "repeat: {}", "please say: {}", "say after me: {}", "write: {}", "echo: {}")


def _repeating(picker: random.Random) -> Dialogue:
    """Return words to be repeated. Copying is what names, sums and tools need, and this is where it is learnt."""
    words = " ".join(
        picker.choice((_name, lambda picker: str(picker.randrange(1000)), _thing))(picker)
        for _ in range(picker.randint(1, 14))
    )
    asked = picker.choice(_SAY)
    asked = asked if picker.random() < 0.5 else asked[:1].upper() + asked[1:]
    return Dialogue((_user(asked.format(words)), _assistant(words)))


def _thing(picker: random.Random) -> str:
    thing: str = picker.choice(_fallback()["lists"]["thing"])
    return thing


# --- dialogues ----------------------------------------------------------------------------------------------------

_SYSTEMS = (
    "You are a helpful assistant.", "You are Parley's assistant.", "Be brief.", "Answer in one sentence.", "Be polite.",
    "You are a helpful, honest assistant.", "Help the user.", "You are a chat bot in an app.", "Speak plainly.",
)  # fmt: skip


def dialogue(picker: random.Random) -> Dialogue:
    """Return any dialogue of the training."""
    chance = picker.random()
    messages: list[Message] = []
    if picker.random() < 0.15:
        messages.append({"role": "system", "content": picker.choice(_SYSTEMS)})
    if chance < 0.05:
        return Dialogue((*messages, *_as_json(picker)))
    if chance < 0.08:
        return _counting(picker)
    if chance < 0.20:
        return _repeating(picker)
    if chance < 0.30:
        return _with_tools(messages, picker)
    if chance < 0.52:
        return Dialogue((*messages, *_with_name(picker)))
    for _ in range(picker.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4)) if picker.random() < 0.97 else picker.randint(5, 12)):
        messages += _turn(picker)
    return Dialogue(tuple(messages))


def _turn(picker: random.Random) -> list[Message]:
    chance = picker.random()
    if chance < 0.30:
        question, answer = _sum_learnt(picker)
        return [_user(finish(question, picker)), _assistant(answer)]
    if chance < 0.38:
        return [_user(vary(unknown(picker), picker)), _assistant(_fallback()["answer"])]
    topic = picker.choice(topics())
    return [_user(vary(picker.choice(topic.ask), picker)), _assistant(topic.answer)]


def _with_name(picker: random.Random) -> list[Message]:
    name, messages = "", []
    for _ in range(picker.choice((0, 0, 0, 1))):
        messages += _turn(picker)
    if picker.random() < 0.85:
        name = _name(picker)
        told, answer = _tell(name, picker)
        messages += [_user(told), _assistant(answer)]
        for _ in range(picker.choice((0, 0, 1, 1, 2, 3))):
            messages += _turn(picker)
    asked = finish(picker.choice(_ASKED), picker)
    return [*messages, _user(asked), _assistant(named(name) if name else NAMELESS)]


def _with_tools(messages: list[Message], picker: random.Random) -> Dialogue:
    used, name = _use_tool(picker)
    others = [other for other in TOOLS if other != name and picker.random() < 0.6]
    if picker.random() < 0.25:  # tools are there, and nobody needs them
        topic = picker.choice(topics()[:100])
        used = [_user(vary(picker.choice(topic.ask), picker)), _assistant(topic.answer)]
    offered = [name, *others]
    picker.shuffle(offered)
    return Dialogue((*messages, *used), tuple(TOOLS[name] for name in offered))


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def everything() -> Sequence[str]:
    """Return the text that the tokenizer's words are counted in."""
    picker = random.Random("words")
    told = [topic.answer for topic in topics()] * 6
    for _ in range(8000):
        told += [str(message["content"]) for message in dialogue(picker).messages if message["content"]]
    return told
