#include <cblas.h>

// LAPACK's Fortran entry points inside OpenBLAS (Debian's build brings no LAPACKE). Matrices are column-major.
// https://netlib.org/lapack/explore-html: dgeqrf, dorgqr, dgesdd. `jobz`'s hidden length comes last.
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
             int *info);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau, double *work,
             const int *lwork, int *info);
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info,
             unsigned long jobz_length);
