"""The messages that the visitor writes and reads are Streamlit's own, field by field."""

from __future__ import annotations

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from analysis.bench import visitor
from analysis.bench.pages import p95
from analysis.bench.visitor import Run, Visitor, choice_widget, file_widget
from analysis.errors import AnalysisError

WIDGET = "$$ID-0a1b2c-_live_roles"


class Wire:
    """A connection with the server's answers prepared."""

    def __init__(self, *answers: ForwardMsg) -> None:
        self.sent: list[bytes] = []
        self._answers = [answer.SerializeToString() for answer in answers]

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, timeout: float) -> bytes:
        if not self._answers:
            raise TimeoutError
        return self._answers.pop(0)


def on_wire(*answers: ForwardMsg) -> tuple[Visitor, Wire]:
    found, wire = Visitor.__new__(Visitor), Wire(*answers)
    found._page, found._port, found._session, found._hash, found._socket = "concept", 1, "", "", wire  # type: ignore[assignment]
    return found, wire


def delta(text: str, fragment: str = "") -> ForwardMsg:
    message = ForwardMsg()
    message.delta.new_element.markdown.body = text
    message.delta.fragment_id = fragment
    return message


def finished(status: int = ForwardMsg.FINISHED_SUCCESSFULLY) -> ForwardMsg:
    return ForwardMsg(script_finished=status)


def test_request_names_page_query_widgets_and_fragment() -> None:
    found, wire = on_wire(finished())
    found.run("store=a/b&x=1", widgets=(choice_widget(WIDGET, ("w/o image", "w/o text")),), fragment="f1")
    state = BackMsg.FromString(wire.sent[0]).rerun_script
    assert (state.query_string, state.page_name, state.fragment_id) == ("store=a/b&x=1", "concept", "f1")
    (widget,) = state.widget_states.widgets
    assert widget.id == WIDGET
    assert list(widget.string_array_value.data) == ["w/o image", "w/o text"]


def test_later_requests_name_the_page_as_the_server_does() -> None:
    navigation, session = ForwardMsg(), ForwardMsg()
    navigation.navigation.page_script_hash = "abc"
    session.new_session.initialize.session_id = "s1"
    found, wire = on_wire(session, navigation, finished(), finished())
    found.run()
    found.run()
    state = BackMsg.FromString(wire.sent[1]).rerun_script
    assert (state.page_script_hash, state.page_name) == ("abc", "")
    assert found._session == "s1"


def test_run_collects_elements_until_the_script_is_done_and_not_before() -> None:
    found, _ = on_wire(
        delta("first"),
        finished(ForwardMsg.FINISHED_EARLY_FOR_RERUN),
        delta(WIDGET, "frag"),
        delta("x" * 5000),
        finished(),
    )
    run = found.run()
    assert run.shows("first")
    assert run.shows("x" * 5000)
    assert not run.shows("second")
    assert run.widget("_live_roles") == (WIDGET, "frag")
    assert run.seconds >= 0


def test_failed_page_is_an_error_and_not_a_fast_page() -> None:
    failed = ForwardMsg()
    failed.delta.new_element.alert.icon = ":material/error:"
    found, _ = on_wire(failed, finished())
    with pytest.raises(AnalysisError, match="concept"):
        found.run()


def test_page_that_does_not_exist_is_an_error() -> None:
    missing = ForwardMsg()
    missing.page_not_found.page_name = "concept"
    found, _ = on_wire(missing, finished())
    with pytest.raises(AnalysisError, match="no page"):
        found.run()


def test_server_that_says_nothing_is_an_error() -> None:
    found, _ = on_wire()
    with pytest.raises(AnalysisError, match="took more than"):
        found.run()


def test_missing_widget_is_an_error() -> None:
    with pytest.raises(AnalysisError, match="_live_roles"):
        Run(0.1, (("", delta(f"{WIDGET}_other").SerializeToString()),)).widget("_live_roles")


def test_upload_asks_for_a_place_puts_the_file_there_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, puts = ForwardMsg(), []
    answer.file_urls_response.file_urls.add(file_id="f7", upload_url="/_stcore/upload_file/s1/f7", delete_url="/d")
    found, wire = on_wire(delta("late"), answer)
    found._session = "s1"
    monkeypatch.setattr(visitor, "_put", lambda address, name, data: puts.append((address, name, data)))
    state = found.upload("a.png", b"12345")
    request = BackMsg.FromString(wire.sent[0]).file_urls_request
    assert (list(request.file_names), request.session_id) == (["a.png"], "s1")
    assert puts == [("http://127.0.0.1:1/_stcore/upload_file/s1/f7", "a.png", b"12345")]
    message = BackMsg()
    message.rerun_script.widget_states.widgets.add().MergeFromString(file_widget("u", state))
    (info,) = message.rerun_script.widget_states.widgets[0].file_uploader_state_value.uploaded_file_info
    assert (info.name, info.size, info.file_id, info.file_urls.upload_url) == (
        "a.png", 5, "f7", "/_stcore/upload_file/s1/f7",
    )  # fmt: skip


def test_p95_is_a_time_that_was_measured() -> None:
    assert p95([0.1] * 19 + [5.0]) == 5.0
    assert p95([0.1] * 39 + [5.0]) == pytest.approx(0.1)
