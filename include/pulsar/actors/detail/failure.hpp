// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Failures between threads and processes: an exception is taken apart where it was thrown and put
// together again, as the same type where that is known, where it is to be seen.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/core/error.hpp>

#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>

namespace pulsar::detail {

inline std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : type.name();
}

inline remote_failure take_apart(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const command_error& e) {
    return {e.type(), "pulsar", static_cast<int>(errc::command_failed), e.text()};
  } catch (const std::system_error& e) {
    // The code's own text is appended again at the other end.
    std::string text = e.what();
    const std::string tail = e.code().message();
    if (text == tail) {
      text.clear();
    } else if (text.ends_with(": " + tail)) {
      text.resize(text.size() - tail.size() - 2);
    }
    return {type_name(typeid(e)), e.code().category().name(), e.code().value(), std::move(text)};
  } catch (const std::exception& e) {
    return {type_name(typeid(e)), "", 0, e.what()};
  } catch (...) {
    const auto* type = abi::__cxa_current_exception_type();
    return {type != nullptr ? type_name(*type) : "unknown", "", 0, "no text"};
  }
}

template <class E>
bool put_together_as(const remote_failure& f, std::exception_ptr& out) {
  if (f.type != type_name(typeid(E))) return false;
  out = std::make_exception_ptr(E(f.text));
  return true;
}

inline std::exception_ptr put_together(const remote_failure& f) {
  if (f.category == "pulsar") {
    if (f.value == static_cast<int>(errc::command_failed)) {
      return std::make_exception_ptr(command_error(f.type, f.text));
    }
    const auto code = make_error_code(static_cast<errc>(f.value));
    return std::make_exception_ptr(f.text.empty() ? error(code) : error(code, f.text));
  }
  const std::error_category* category = f.category == "system"    ? &std::system_category()
                                        : f.category == "generic" ? &std::generic_category()
                                                                  : nullptr;
  if (category != nullptr) {
    const std::error_code code(f.value, *category);
    return std::make_exception_ptr(f.text.empty() ? std::system_error(code)
                                                  : std::system_error(code, f.text));
  }
  std::exception_ptr out;
  if (put_together_as<std::runtime_error>(f, out) || put_together_as<std::logic_error>(f, out) ||
      put_together_as<std::out_of_range>(f, out) ||
      put_together_as<std::invalid_argument>(f, out) ||
      put_together_as<std::length_error>(f, out) || put_together_as<std::domain_error>(f, out) ||
      put_together_as<std::range_error>(f, out) || put_together_as<std::overflow_error>(f, out) ||
      put_together_as<std::underflow_error>(f, out)) {
    return out;
  }
  if (f.type == type_name(typeid(std::bad_alloc))) return std::make_exception_ptr(std::bad_alloc());
  return std::make_exception_ptr(command_error(f.type, f.text));
}

}  // namespace pulsar::detail
