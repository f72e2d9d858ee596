"""The official Python client's own test suite against a running cluster: which of its tests are run, and how many of
them have to pass. The client is what PyPI has, untouched; what it expects of an older Python is put back here, at run
time. Which nodes are asked, the environment says: RIAK_TEST_HOST, RIAK_TEST_HTTP_PORT, RIAK_TEST_PROTOCOL.

Usage: riak_suite.py [GROUP ...]; without a group all that are expected to pass.
"""

import collections
import collections.abc
import inspect
import mimetypes
import os
import sys
import time
import unittest


def put_back_what_python_lost():
    """Names that were in the standard library when the client was written."""
    for name in collections.abc.__all__:
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    if not hasattr(inspect, "getargspec"):
        inspect.getargspec = lambda function: inspect.getfullargspec(function)[:4]
    plain = collections.namedtuple

    def namedtuple(name, fields, verbose=False, **more):
        return plain(name, fields, **more)

    collections.namedtuple = namedtuple
    # Files with this ending had no type that Python knew; one of the tests is about that.
    mimetypes.init()
    mimetypes.types_map.pop(".md", None)


put_back_what_python_lost()
SWITCHES = ("RUN_KV", "RUN_RESOLVE", "RUN_CLIENT", "RUN_BTYPES", "RUN_MAPREDUCE")
os.environ.update({switch: "1" for switch in SWITCHES})

from riak.tests import test_btypes, test_client, test_comparison, test_kv, test_mapreduce  # noqa: E402

SIBLINGS = ("test_siblings", "test_resolution", "test_resolution_default", "test_tombstone_siblings")
EXTRA = ("test_preflist", "test_stream_keys_timeout")


def named(case, names):
    return [case(name) for name in names]


def all_of(*cases, leave_out=()):
    found = []
    for case in cases:
        names = unittest.defaultTestLoader.getTestCaseNames(case)
        found += [case(name) for name in names if name not in leave_out]
    return found


# Each group with how many of its tests a real Riak 3.2.3 passes over HTTP; a skipped test is none that passed. Of `client`
# one is skipped, because the client itself does not pass it anywhere; of `kvextra` one asks for names of nodes.
GROUPS = {
    "kv": (
        lambda: all_of(
            test_kv.BasicKVTests,
            test_kv.KVFileTests,
            leave_out=SIBLINGS + EXTRA + ("test_set_bucket_properties",),
        ),
        30,
    ),
    "siblings": (lambda: named(test_kv.BasicKVTests, SIBLINGS), 4),
    "props": (
        lambda: all_of(test_kv.BucketPropsTest) + named(test_kv.BasicKVTests, ["test_set_bucket_properties"]),
        4,
    ),
    "counters": (lambda: all_of(test_kv.CounterTests), 2),
    "kvextra": (lambda: named(test_kv.BasicKVTests, EXTRA), 1),
    "client": (lambda: all_of(test_client.ClientTests, test_comparison.RiakClientComparisonTest), 16),
    "btypes": (lambda: all_of(test_btypes.BucketTypeTests), 13),
    "links": (
        lambda: named(test_mapreduce.LinkTests, ["test_store_and_get_links", "test_set_links"]),
        2,
    ),
}


def run(group):
    tests, expected = GROUPS[group]
    module = test_kv if group in ("kv", "siblings", "props", "counters", "kvextra") else None
    suite = unittest.TestSuite(tests())
    began = time.monotonic()
    result = unittest.TestResult()
    if module:
        module.setUpModule()
    try:
        suite.run(result)
    finally:
        if module:
            module.tearDownModule()
    wrong = result.errors + result.failures
    passed = result.testsRun - len(wrong) - len(result.skipped)
    for test, reason in result.skipped:
        print(f"  skipped {test.id().split('.')[-1]}: {reason}")
    for test, trace in wrong:
        print(f"  FAILED {test.id() if hasattr(test, 'id') else test}\n{trace}")
    seconds = time.monotonic() - began
    verdict = "as Riak" if passed == expected else ("more than Riak" if passed > expected else "FEWER THAN RIAK")
    print(f"{group}: {passed} of {result.testsRun} passed, Riak passes {expected}: {verdict} ({seconds:.1f} s)")
    sys.stdout.flush()
    return passed >= expected


def main(groups):
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        sys.exit(f"there is no group {unknown[0]}; there are {', '.join(GROUPS)}")
    outcomes = [run(group) for group in groups or GROUPS]
    sys.exit(0 if all(outcomes) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
