"""The option `--rest` of pytest."""


class Rest:
    """`--rest`: all tests but those that passed in the last run without it; .ci/run runs none twice."""

    key = "conga/passed"  # in pytest's cache

    def __init__(self, config):
        self.config, self.passed = config, []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)

    def pytest_collection_modifyitems(self, items):
        if self.config.option.rest:
            passed = set(self.config.cache.get(self.key, []))
            self.config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
            items[:] = [item for item in items if item.nodeid not in passed]
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # first, so that no worker ends long after

    def pytest_sessionfinish(self):
        if not self.config.option.rest and not hasattr(self.config, "workerinput"):  # a worker's reports come here, too
            self.config.cache.set(self.key, self.passed)
