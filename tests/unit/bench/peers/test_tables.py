from dataclasses import replace

from bench.peers.figures import Row
from bench.peers.tables import cpu, engine_line, grouped, latency, reached, tables_of, throughput


def _cells(table, title):
    (row,) = [row for row in table.rows if row[0].startswith(title)]
    return dict(zip(table.columns, row, strict=True))


def test_requests_are_told_by_connections_and_what_a_server_cannot_do_is_empty(figures):
    cells = _cells(throughput(figures), "MLServer")
    assert cells["JSON"] == "1,000 / 1,000 / 1,000"
    assert cells["binary"] == ""
    assert (cells["start s"], cells["memory MB"]) == ("2.0", "100")


def test_a_server_that_could_not_be_measured_is_named_with_the_reason(figures):
    (cells,) = [row for row in throughput(figures).rows if row[0].startswith("KServe")]
    assert "it cannot be installed" in cells[0]
    assert len(cells) == len(throughput(figures).columns)


def test_echoes_are_left_out_where_only_servers_are_wanted(figures):
    titles = [row[0] for row in throughput(figures, echoes=False).rows]
    assert not any("echo" in title for title in titles)
    assert len(titles) == len(throughput(figures).rows) - 1


def test_latencies_are_medians_and_slowest(figures):
    assert _cells(latency(figures), "Strata, `engine: auto`")["binary, 64"] == "2.0 / 4.0"


def test_cpu_is_told_as_a_whole_and_by_process(figures):
    rows = [row for row in cpu(figures).rows]
    place = next(i for i, row in enumerate(rows) if row[0].startswith("Strata"))
    assert [row[:2] for row in rows[place : place + 4]] == [
        ["Strata, `engine: auto`", "600"],
        ["- replica", "400"],
        ["- HAProxy", "150"],
        ["- Ray's others", "50"],
    ]


def test_what_ray_runs_besides_is_one_process_of_stratas():
    row = Row(1.0, 1.0, 1.0, {"replica": 4.0, "gateway": 3.0, "raylet": 1.0, "gcs_server": 2.0})
    assert grouped("strata", row) == {"replica": 4.0, "gateway": 3.0, "Ray's others": 3.0}
    assert grouped("triton", row) == dict(row.cpu_us)
    assert grouped("strata", None) == {}


def test_processes_that_hardly_count_have_no_line(figures):
    row = Row(1.0, 1.0, 1.0, {"replica": 990.0, "gateway": 10.0})
    strata = figures.peers["strata"]
    alone = {"strata": replace(strata, rows=dict.fromkeys(strata.rows, row))}
    assert [cells[0] for cells in cpu(replace(figures, peers=alone)).rows] == [
        "Strata, `engine: auto`"
    ]


def test_targets_say_bound_and_verdict(figures):
    cells = reached(figures).rows[0]
    assert cells[1:4] == ["≥ 3", "1.00", "miss"]


def test_tables_are_whole_in_markdown(figures):
    for table in tables_of(figures):
        lines = table.markdown().splitlines()
        assert len(lines) == len(table.rows) + 2
        assert len({line.count(" | ") for line in lines}) == 1, "all have the same columns"


def test_the_engine_is_told_in_words(figures):
    assert "1.00 ms a call of one row, 4,000 images/s" in engine_line(figures)
    assert "1 turn each" in engine_line(figures)
    assert "3 turns each" in engine_line(replace(figures, rounds=3))
