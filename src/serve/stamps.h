// What requests and answers are stamped with.
#pragma once

#include <cstdint>
#include <string>

namespace mlxlm::serve {

std::string random_id(); // 32 hexadecimal digits
std::int64_t unix_time(); // seconds since 1970

} // namespace mlxlm::serve
