// expect: no (matching function|viable constructor)
#include <pulsar/core/fixed_string.hpp>

int main(int, char** argv) { pulsar::fixed_string text(argv[0]); }
