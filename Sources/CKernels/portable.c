// Any machine: the compiler's own vectors.
#define CK_LEVEL 0
#define CK_SUFFIX portable
#define CK_NAME "portable"
#define CK_TABLE ck_portable
#include "body/all.h"
