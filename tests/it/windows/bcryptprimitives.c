/* The standard library of Rust takes its random numbers from this library, and wine 8 does not have it. */
#include <windows.h>

BOOLEAN WINAPI SystemFunction036(void *bytes, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *bytes, SIZE_T length)
{
    return SystemFunction036(bytes, (ULONG)length);
}
