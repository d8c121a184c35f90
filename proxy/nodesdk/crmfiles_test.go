package nodesdk_test

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
)

// file is the details of an uploaded file. The fake does not keep the contents.
type file struct {
	ID        string `json:"id"`
	CreatedAt string `json:"createdAt"`
	UpdatedAt string `json:"updatedAt"`
	Archived  bool   `json:"archived"`
	Path      string `json:"path"`
	Size      int64  `json:"size"`
	Name      string `json:"name"`
	Extension string `json:"extension"`
	Access    string `json:"access"`
	MD5       string `json:"fileMd5"`
}

// upload serves an upload: a multipart form with the parts file, folderPath, fileName and
// options. The file is read in constant memory.
func (st *store) upload(w http.ResponseWriter, r *http.Request) {
	form, err := r.MultipartReader()
	if err != nil {
		writeInvalid(w, "The request is not multipart/form-data.")
		return
	}
	f, fields, err := readUpload(form)
	switch {
	case err != nil:
		panic(http.ErrAbortHandler) // the client has disconnected or sends an invalid form
	case f.MD5 == "" || fields["options"] == "" || fields["folderPath"] == "":
		writeInvalid(w, "A file, options and folderPath must be given.")
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	f.ID = st.newID()
	f.CreatedAt = timestamp()
	f.UpdatedAt = f.CreatedAt
	f.Access = "PRIVATE"
	f.Name = cmp.Or(fields["fileName"], f.Name)
	f.Extension = strings.TrimPrefix(path.Ext(f.Name), ".")
	f.Path = path.Join("/", fields["folderPath"], f.Name)
	st.files[f.ID] = f
	writeJSON(w, http.StatusCreated, f)
}

// readUpload returns the file's name, size and hash, and the other parts of the form.
func readUpload(form *multipart.Reader) (file, map[string]string, error) {
	var f file
	fields := map[string]string{}
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			return f, fields, nil
		}
		if err != nil {
			return file{}, nil, err
		}
		if part.FormName() == "file" {
			sum := md5.New()
			if f.Size, err = io.Copy(sum, part); err != nil {
				return file{}, nil, err
			}
			f.Name, f.MD5 = part.FileName(), hex.EncodeToString(sum.Sum(nil))
			continue
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return file{}, nil, err
		}
		fields[part.FormName()] = string(value)
	}
}

func (st *store) fileDetails(w http.ResponseWriter, r *http.Request) {
	f, ok := st.files[r.PathValue("id")]
	if !ok {
		writeNotFound(w)
		return
	}
	writeJSON(w, http.StatusOK, f)
}
