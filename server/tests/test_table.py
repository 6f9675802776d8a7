from sigmax_server.table import Failed, Served, table


def test_columns_are_aligned_and_failures_come_last_with_their_reason() -> None:
    lines = table(
        [
            Failed("a-broken-one", 12, "no such operator"),
            Served("animal", 1, "traits FP32[-1, 6]", "multiclass", "cpu", False, True),
            Served("linear", 3, "x FP32[-1, 3]", "none", "cpu", True, False),
        ]
    )
    assert lines.splitlines() == [
        "MODEL         VERSION  INPUTS              TASK        DEVICE  WEIGHT  ROWS INDEPENDENT",
        "animal        1        traits FP32[-1, 6]  multiclass  cpu     light   yes",
        "linear        3        x FP32[-1, 3]       none        cpu     heavy   no",
        "a-broken-one  12       not served: no such operator",
    ]
