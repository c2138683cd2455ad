// expect: invalid type specifier
#include <pulsar/core/log.hpp>

int main() { pulsar::log::info("{:d}", "text"); }
