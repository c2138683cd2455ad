// expect: a generator gives values or lvalue references
// max-lines: 24
#include <pulsar/core/generator.hpp>

pulsar::generator<void> f();
void g() { f(); }
