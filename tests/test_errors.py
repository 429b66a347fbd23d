"""Messages of errors."""

from denoiser.errors import AudioError


def test_a_message_is_one_printable_line_for_any_text_in_a_file():
    text = str(AudioError("a\nb\x1b[31m\u2028\udcff" + "x" * 10_000))
    assert text.startswith(r"a\nb\x1b[31m\u2028\udcff")
    assert text.isprintable()
    assert len(text) < 2100
