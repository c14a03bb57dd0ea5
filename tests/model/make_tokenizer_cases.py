"""Makes tokenizer_cases.jsonl, what test_tokenizer.c compares with, by Hugging Face tokenizers 0.23.3:

    python make_tokenizer_cases.py > tokenizer_cases.jsonl

Line 1: digests (BLAKE2b-256) of what BertNormalizer and BertPreTokenizer do to every code point. Every other line: one
tokenizer.json with a vocabulary of our own, and texts with their ids."""
import hashlib
import json
import random
import string

from tokenizers import Tokenizer, normalizers, pre_tokenizers

rng = random.Random(4)
code_points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def bert(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True):
    return dict(clean_text=clean_text, handle_chinese_chars=handle_chinese_chars, strip_accents=strip_accents,
                lowercase=lowercase)


OFF = bert(False, False, False, False)
STEPS = [dict(OFF, clean_text=True), dict(OFF, handle_chinese_chars=True), dict(OFF, strip_accents=True),
         dict(OFF, lowercase=True), bert()]


def digest_of_normalizer(options):
    normalizer = normalizers.BertNormalizer(**options)
    digest = hashlib.blake2b(digest_size=32)
    for c in code_points:
        # Marks on both sides (classes 226 and 9, and kept) show the combining class, as the canonical order of the three.
        digest.update(normalizer.normalize_str("a\U0001D16D" + chr(c) + "\uA953b").encode())
    return digest.hexdigest()


def digest_of_pre_tokenizer():
    # For each code point between two letters: 1 word (a letter), 2 (a space) or 3 (punctuation).
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return hashlib.blake2b(b"".join(b"%d" % len(split("a" + chr(c) + "b")) for c in code_points),
                           digest_size=32).hexdigest()


print(json.dumps({"normalizers": [{"options": o, "digest": digest_of_normalizer(o)} for o in STEPS],
                  "pre_tokenizer": digest_of_pre_tokenizer()}))

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "heist", "goes", "wrong", "in", "desert", "un", "##believ", "##able", "##s", "##ing", "film", "cafe",
         "caf\u00e9", "Caf", "\u65e5", "\u672c", "##\u672c", "\u0440\u0435\u0436", "##\u0438\u0441\u0441\u0435\u0440",
         "stra\u00dfe", "\u1100", "##\u1161", "i\u0307", "##\u0307", "\u2026", "\u2014", "\u00bf", "\u3002", "\U0001F3AC",
         "e\u0301", "##e\u0301", "##e", "\u0301", "##\u0301", "2", "##0", "##2", "##6", "20", "##26"]
LETTERS = list(string.ascii_letters) + ["##" + c for c in string.ascii_letters]
VOCABULARY = {t: i for i, t in enumerate(dict.fromkeys(SPECIAL + WORDS + LETTERS + list("!?.,'\"-()[]:#@$%&<>_/")))}

TEXTS = ["", " ", "The heist goes wrong in the desert!", "UNBELIEVABLE films, filming", "Caf\u00e9 CAFE\u0301 cafe caf\u00e9s",
         "\u65e5\u672c\u306e\u6620\u753b\u300c\u65e5\u672c\u300d\u3002", "the[SEP]heist [MASK] [mask] [MASK]ed [CLS][CLS]", "2026 20 26 2.0",
         "\u0420\u0435\u0436\u0438\u0441\u0441\u0451\u0440 Stra\u00dfe STRASSE \u1e9e", "\uac00\uac01 \u1100\u1161", "\u0130stanbul i\u0307 \u0130",
         "a\u0000b\u200bc\ufeffd\ufffde\u00adf", "tab\tnew\nline\r\nnbsp\u00a0ideographic\u3000nel\u0085vt\u000bps\u2029end",
         "e\u0327\u0301 e\u0301\u0327 \u1e17 a\u0345\u0334 \u0344 \u1d15e \U0001d15e", "\u00bfqu\u00e9\u2026? \u2014 yes\u2014no \u201cquoted\u201d \u055a\u2e4f",
         "\U0001F3AC\U0001F3AC film \U0001F3AC\ufe0f \U0001faa9", "x" * 100, "x" * 101, "the " + "x" * 250 + " heist", "\u00e9" * 101,
         "\uf900\ufa0e\U0002f800\U00020000\u3400\u4dbf\u9fff\ua000", "##s ##able # # the##s", "don't U.S.A. a_b a/b <b>x</b>",
         "my_tok my_toks MY_TOK xmy_tok my_tok.", "a  <mask>  b<mask>c <mask>", "foo bar foobar Foo Bar FOO  BAR", "\u03a3\u03a3 \u03c2 \u1f88 \u01c5"]
PIECES = TEXTS + [chr(rng.choice(code_points)) for _ in range(60)] + [" ", " ", "\u0301", "\u0327", "the", "[SEP]", "film"]
TEXTS += ["".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 7))) for _ in range(60)]


def added(content, i, **flags):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False, **flags}


def specials():
    return [added(t, VOCABULARY[t], special=True) for t in SPECIAL]


n = len(VOCABULARY)
TEMPLATE = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [], "special_tokens": {t: {"id": t, "ids": [VOCABULARY[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}}
BERT = {"type": "BertProcessing", "sep": ["[SEP]", VOCABULARY["[SEP]"]], "cls": ["[CLS]", VOCABULARY["[CLS]"]]}
STRIPPED = [added("<mask>", n, special=True, lstrip=True, rstrip=True), added(" ", n + 1, single_word=True, lstrip=True, rstrip=True),
            added("my_tok", n + 2, single_word=True)]
NORMALIZED = [added("My_Tok", n, normalized=True, single_word=True), added("Foo Bar", n + 1, normalized=True),
              added("CAF\u00c9S", n + 2, normalized=True), added("foo", n + 3, rstrip=True), added(" bar", n + 4, normalized=True),
              added("FOO BAR", n + 5, normalized=True, special=True)]
CASES = [(bert(), specials(), TEMPLATE, 100), (bert(lowercase=False), specials(), BERT, 100),
         (bert(strip_accents=False), specials(), None, 100), (bert(lowercase=False, strip_accents=True), specials(), BERT, 7),
         (bert(clean_text=False), specials(), BERT, 100), (bert(handle_chinese_chars=False), specials(), BERT, 101),
         (None, [], dict(BERT, type="RobertaProcessing", trim_offsets=True, add_prefix_space=True), 0), (bert(), specials() + STRIPPED, TEMPLATE, 100), (bert(), specials() + NORMALIZED, TEMPLATE, 100),
         (bert(lowercase=False), specials() + NORMALIZED + [added("<mask>", n + 6, lstrip=True)], BERT, 100)]

for options, tokens, processor, max_chars in CASES:
    definition = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
                  "normalizer": options and {"type": "BertNormalizer", **options}, "pre_tokenizer": {"type": "BertPreTokenizer"},
                  "post_processor": processor, "decoder": None,
                  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                            "max_input_chars_per_word": max_chars, "vocab": VOCABULARY}}
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    cases = [{"text": t, "ids": tokenizer.encode(t).ids} for t in TEXTS]
    print(json.dumps({"tokenizer": definition, "cases": cases}))
