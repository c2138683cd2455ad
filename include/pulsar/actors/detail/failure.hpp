// SPDX-License-Identifier: BSD-3-Clause
#pragma once

// Failures between threads and processes: an exception is taken apart where it was thrown and put
// together again, as the same type where that is known, where it is to be seen.

#include <pulsar/actors/detail/cell.hpp>
#include <pulsar/core/error.hpp>

#include <asio/error.hpp>
#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <typeinfo>
#include <variant>

namespace pulsar::detail {

inline std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : type.name();
}

/// The categories that every process knows; null for others.
inline const std::error_category* category_of(std::string_view name) noexcept {
  for (const std::error_category* known :
       {&error_category(), &std::system_category(), &std::generic_category(),
        &static_cast<const std::error_category&>(asio::error::get_misc_category()),
        &static_cast<const std::error_category&>(asio::error::get_netdb_category()),
        &static_cast<const std::error_category&>(asio::error::get_addrinfo_category())}) {
    if (name == known->name()) return known;
  }
  return nullptr;
}

inline remote_failure take_apart(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const command_error& e) {
    return {e.type(), "pulsar", static_cast<int>(errc::command_failed), e.text()};
  } catch (const std::system_error& e) {
    std::string text = e.what();
    const std::string tail = e.code().message();
    if (category_of(e.code().category().name()) == nullptr) return {type_name(typeid(e)), "", 0, text};
    // The code's own text is appended again at the other end.
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
  if constexpr (std::is_constructible_v<E, const std::string&>) {
    out = std::make_exception_ptr(E(f.text));
  } else {
    out = std::make_exception_ptr(E());
  }
  return true;
}

template <class... E>
std::exception_ptr put_together_as_one_of(const remote_failure& f) {
  std::exception_ptr out;
  static_cast<void>((put_together_as<E>(f, out) || ...));
  return out;
}

inline std::exception_ptr put_together(const remote_failure& f) {
  if (f.category == "pulsar") {
    if (f.value == static_cast<int>(errc::command_failed)) {
      return std::make_exception_ptr(command_error(f.type, f.text));
    }
    const auto code = make_error_code(static_cast<errc>(f.value));
    return std::make_exception_ptr(f.text.empty() ? error(code) : error(code, f.text));
  }
  if (const auto* category = f.category.empty() ? nullptr : category_of(f.category)) {
    const std::error_code code(f.value, *category);
    return std::make_exception_ptr(f.text.empty() ? std::system_error(code)
                                                  : std::system_error(code, f.text));
  }
  // Those with a text first.
  auto out = put_together_as_one_of<
      std::runtime_error, std::logic_error, std::out_of_range, std::invalid_argument,
      std::length_error, std::domain_error, std::range_error, std::overflow_error,
      std::underflow_error, std::exception, std::bad_alloc, std::bad_array_new_length,
      std::bad_cast, std::bad_typeid, std::bad_exception,
      std::bad_optional_access, std::bad_variant_access, std::bad_function_call,
      std::bad_weak_ptr>(f);
  if (out != nullptr) return out;
  return std::make_exception_ptr(command_error(f.type, f.text));
}

}  // namespace pulsar::detail
