// SPDX-License-Identifier: BSD-3-Clause
//
// The main function of every test program. In those of the actors and above this program is also
// the image of its process actors: serve_if_worker() takes over before doctest sees an argument.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#ifdef PULSAR_TEST_SERVES_WORKERS
#include <pulsar/actors/run.hpp>
#endif

int main(int argc, char** argv) {
#ifdef PULSAR_TEST_SERVES_WORKERS
  pulsar::serve_if_worker(argc, argv);
#endif
  return doctest::Context(argc, argv).run();
}
