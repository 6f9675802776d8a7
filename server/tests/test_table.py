from sigmax_server.table import Failed, Served, table


def test_columns_are_aligned_and_failures_come_last_with_their_reason_and_then_notes() -> None:
    lines = table(
        [
            Failed("a-broken-one", 12, "no such operator"),
            Served("animal", 1, "traits FP32[-1, 6]", "multiclass", "cpu", False, True, 64),
            Served("linear", 3, "x FP32[-1, 3]", "none", "cuda:0", True, False, 8, ("a", "b")),
        ]
    )
    assert lines.splitlines() == [
        "MODEL         VERSION  INPUTS              TASK        DEVICE  WEIGHT  INDEPENDENT  BATCH",
        "animal        1        traits FP32[-1, 6]  multiclass  cpu     light   yes          64",
        "linear        3        x FP32[-1, 3]       none        cuda:0  heavy   no           none",
        "a-broken-one  12       not served: no such operator",
        "linear: a",
        "linear: b",
    ]
